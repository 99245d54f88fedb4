use super::*;

fn data(json: &str) -> Data {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn misfit(json: &str, datatype: Datatype) -> String {
    let data = data(json);
    data.tensor(datatype, &[data.len()]).unwrap_err().to_string()
}

/// The values, sent and read back as that datatype.
fn echo(json: &str, datatype: Datatype) -> String {
    let data = data(json);
    let tensor = data.tensor(datatype, &[data.len()]).unwrap();
    let mut out = Vec::new();
    serialize(&tensor, &mut serde_json::Serializer::new(&mut out)).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn every_datatype_carries_its_extremes_there_and_back() {
    for (datatype, json) in [
        (Datatype::Bool, "[true,false]"),
        (Datatype::Uint8, "[0,255]"),
        (Datatype::Uint16, "[0,65535]"),
        (Datatype::Uint32, "[0,4294967295]"),
        (Datatype::Uint64, "[0,18446744073709551615]"),
        (Datatype::Int8, "[-128,127]"),
        (Datatype::Int16, "[-32768,32767]"),
        (Datatype::Int32, "[-2147483648,2147483647]"),
        (Datatype::Int64, "[-9223372036854775808,9223372036854775807]"),
        (Datatype::Fp16, "[-0.5,65504.0]"),
        (Datatype::Fp32, "[0.1,-3.4028235e+38]"),
        (Datatype::Fp64, "[0.1,1e+308]"),
    ] {
        assert_eq!(echo(json, datatype), json, "{datatype}");
    }
}

#[test]
fn whole_numbers_serve_as_floats_and_whole_floats_as_integers() {
    assert_eq!(echo("[16, -1]", Datatype::Fp32), "[16.0,-1.0]");
    assert_eq!(echo("[3.0, 1e2]", Datatype::Int8), "[3,100]");
    assert_eq!(echo("[0, 1]", Datatype::Bool), "[false,true]");
}

#[test]
fn values_that_do_not_fit_are_named_with_their_position() {
    assert_eq!(misfit("[1, 300]", Datatype::Uint8), "value 1 is 300, which UINT8 cannot hold");
    assert_eq!(misfit("[-1]", Datatype::Uint64), "value 0 is -1, which UINT64 cannot hold");
    assert_eq!(misfit("[2.5]", Datatype::Int32), "value 0 is 2.5, which INT32 cannot hold");
    assert_eq!(misfit("[1e39]", Datatype::Fp32), "value 0 is 1e39, which FP32 cannot hold");
    assert_eq!(misfit("[65520]", Datatype::Fp16), "value 0 is 65520, which FP16 cannot hold");
    assert_eq!(misfit("[2]", Datatype::Bool), "value 0 is 2, which BOOL cannot hold");
    assert_eq!(misfit("[true]", Datatype::Fp64), "value 0 is true, which FP64 cannot hold");
    assert_eq!(misfit("[\"7\"]", Datatype::Fp64), "value 0 is a string, which FP64 cannot hold");
    assert_eq!(
        misfit("[null]", Datatype::Fp32),
        "value 0 is null, which FP32 cannot hold; NaN and infinities have no form in JSON"
    );
}

#[test]
fn nested_arrays_are_read_in_row_major_order_and_keep_their_lengths() {
    let nested = data("[[[1,2],[3,4],[5,6]],[[7,8],[9,10],[11,12]]]");
    assert_eq!(nested.lengths(), [2, 3, 2]);
    assert_eq!(nested.len(), 12);
    assert!(nested.nests_as(&[2, 3, 2]));
    assert!(!nested.nests_as(&[2, 2, 3]));
    assert!(!nested.nests_as(&[12]));
    assert!(data("[1,2,3,4]").nests_as(&[2, 2]));
    let tensor = data("[[1,2],[3,4]]").tensor(Datatype::Int8, &[2, 2]).unwrap();
    assert_eq!(elements::<i8>(&tensor), [1, 2, 3, 4]);
}

#[test]
fn ragged_mixed_and_endless_nesting_is_refused() {
    for (json, reason) in [
        ("[[1,2],[3]]", "data has nested arrays of different lengths"),
        ("[[1],2]", "data has values and arrays side by side"),
        ("[1,[2]]", "data has values and arrays side by side"),
        ("[[[1]],[[]]]", "data has nested arrays of different lengths"),
        ("7", "data must be an array"),
        ("[[[[[[[[[1]]]]]]]]]", "data is nested deeper than 8"),
    ] {
        let error = serde_json::from_str::<Data>(json).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{json}: {error}");
    }
    assert!(serde_json::from_str::<Data>("[{}]").is_err());
}

#[test]
fn the_first_value_that_json_cannot_carry_is_found() {
    let tensor = Tensor::from_shape(&[3], &[1.0_f32, f32::NEG_INFINITY, f32::NAN]).unwrap();
    assert_eq!(first_not_finite(&tensor), Some(1));
    assert_eq!(first_not_finite(&Tensor::from_shape(&[1], &[7_i64]).unwrap()), None);
}
