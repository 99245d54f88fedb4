#!/usr/bin/env python3
"""Trains the example model: which digit is it, from 8x8 pixels?

The data set comes with scikit-learn (1797 handwritten digits, nothing to download), so that
anyone can repeat this in a few seconds:

    python3 -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python train.py

It writes three files beside itself, always the same ones:

    models/digits.onnx       the model: pixels [batch, 64] -> probabilities [batch, 10], digit [batch]
    models/digits-test.json  360 digits the model has never seen, with their labels
    seven.json               one of them as a ready request in the Open Inference Protocol v2
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = Path(__file__).resolve().parent
SEED = 7
HELD_OUT = 360
# A pixel counts the dark dots of a 4x4 block. The model divides by it, so callers send raw counts.
PIXEL_MAX = 16.0
# The newest operator set that the serving runtime is tested against is 18; nothing newer is needed.
OPSET = 17
IR_VERSION = 8


def split():
    """Pixels and labels for training and for the test, the same share of each digit in both."""
    digits = load_digits()
    return train_test_split(
        digits.data.astype(np.float32),
        digits.target,
        test_size=HELD_OUT,
        random_state=SEED,
        stratify=digits.target,
    )


def train(pixels, labels):
    """A perceptron with one hidden layer, which is plenty for 64 pixels."""
    network = MLPClassifier(
        hidden_layer_sizes=(64,),
        activation="relu",
        alpha=1e-2,
        max_iter=400,
        random_state=SEED,
    )
    return network.fit(pixels / PIXEL_MAX, labels)


def export(network):
    """The trained weights as an ONNX graph of plain operators, written out by hand."""

    def constant(name, value):
        return numpy_helper.from_array(np.ascontiguousarray(value), name)

    (hidden, output), (hidden_bias, output_bias) = network.coefs_, network.intercepts_
    weights = [
        constant("pixel_max", np.array(PIXEL_MAX, dtype=np.float32)),
        constant("hidden_weight", hidden.astype(np.float32)),
        constant("hidden_bias", hidden_bias.astype(np.float32)),
        constant("output_weight", output.astype(np.float32)),
        constant("output_bias", output_bias.astype(np.float32)),
    ]
    nodes = [
        helper.make_node("Div", ["pixels", "pixel_max"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "hidden_weight", "hidden_bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "output_weight", "output_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["digit"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 64])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10]),
            helper.make_tensor_value_info("digit", TensorProto.INT64, ["batch"]),
        ],
        weights,
    )
    model = helper.make_model(
        graph,
        producer_name="ebb-example-digits",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def request(pixels):
    """One digit as an inference request, as `curl --data @seven.json` sends it."""
    tensor = {"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": pixels}
    return {"id": "a-seven", "inputs": [tensor]}


def main():
    train_pixels, test_pixels, train_labels, test_labels = split()
    network = train(train_pixels, train_labels)
    guesses = network.predict(test_pixels / PIXEL_MAX)
    print(f"accuracy on {len(test_labels)} unseen digits: {np.mean(guesses == test_labels):.4f}")

    models = HERE / "models"
    models.mkdir(exist_ok=True)
    onnx.save(export(network), models / "digits.onnx")

    # Whole numbers, one digit a line: small, and a changed digit shows in a diff.
    rows = [
        json.dumps({"label": int(label), "pixels": [int(p) for p in pixels]}, separators=(",", ":"))
        for pixels, label in zip(test_pixels, test_labels)
    ]
    (models / "digits-test.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")

    seven = next(i for i, label in enumerate(test_labels) if label == 7 and guesses[i] == 7)
    body = json.dumps(request([int(p) for p in test_pixels[seven]]))
    (HERE / "seven.json").write_text(body + "\n")


if __name__ == "__main__":
    main()
