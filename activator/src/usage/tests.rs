use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What is read of `text` in parts of `size` bytes, and how many events had a piece of the answer.
fn read(mut scan: AnswerScan, text: &str, size: usize) -> (Usage, u32) {
    let pieces = text.as_bytes().chunks(size.max(1)).map(|part| scan.part(part)).sum();
    (scan.usage(), pieces)
}

fn usage(prompt: u64, completion: u64) -> Usage {
    Usage { prompt, completion }
}

/// Reads `text` whole, in single bytes, and cut in two at every byte.
fn json_in_all_ways(text: &str) -> Usage {
    let whole = read(AnswerScan::json(), text, text.len()).0;
    assert_eq!(read(AnswerScan::json(), text, 1).0, whole, "{text}");
    for cut in 0..text.len() {
        let mut scan = AnswerScan::json();
        scan.part(&text.as_bytes()[..cut]);
        scan.part(&text.as_bytes()[cut..]);
        assert_eq!(scan.usage(), whole, "{cut}: {text}");
    }
    whole
}

fn events_in_all_ways(text: &str) -> (Usage, u32) {
    let whole = read(AnswerScan::events(), text, text.len());
    assert_eq!(read(AnswerScan::events(), text, 1), whole, "{text}");
    for cut in 0..text.len() {
        let mut scan = AnswerScan::events();
        let pieces = scan.part(&text.as_bytes()[..cut]) + scan.part(&text.as_bytes()[cut..]);
        assert_eq!((scan.usage(), pieces), whole, "{cut}: {text}");
    }
    whole
}

#[test]
fn the_usage_of_an_answer_is_found_wherever_it_stands() {
    for (text, found) in [
        // vLLM and OpenAI.
        (
            r#"{"id":"1","choices":[{"message":{"role":"assistant","content":"a \"usage\": {"}}],
            "usage":{"prompt_tokens":7,"total_tokens":12,"completion_tokens":5,
            "prompt_tokens_details":{"prompt_tokens":99}}}"#,
            usage(7, 5),
        ),
        // llama.cpp: in the middle.
        (
            r#"{"usage" : {"completion_tokens" : 12 , "prompt_tokens":3},"timings":{"usage":1}}"#,
            usage(3, 12),
        ),
        // Embeddings.
        (
            r#"{"data":[{"embedding":[1.5,-2,3e4]}],"usage":{"prompt_tokens":4,"total_tokens":4}}"#,
            usage(4, 0),
        ),
        // Anthropic's messages, the responses API.
        (r#"{"type":"message","usage":{"input_tokens":2,"output_tokens":3}}"#, usage(2, 3)),
        (r#"{"response":{"usage":{"input_tokens":2,"output_tokens":3}}}"#, usage(2, 3)),
        // Nothing, or what is none.
        (r#"{"choices":[{"usage":{"prompt_tokens":7}}]}"#, usage(0, 0)),
        (r#"{"usage":null}"#, usage(0, 0)),
        (r#"{"usage":{"prompt_tokens":"7","completion_tokens":[7]}}"#, usage(0, 0)),
        (r#"{"usage":{"prompt_tokens":1.5,"completion_tokens":-3}}"#, usage(0, 0)),
        (r#"{"usage":[{"prompt_tokens":7}]}"#, usage(0, 0)),
        (r#"{"us\u0061ge":{"prompt_tokens":7}}"#, usage(0, 0)),
        (r#"["usage",{"prompt_tokens":7}]"#, usage(0, 0)),
        ("no JSON at all: usage {prompt_tokens: 7}", usage(0, 0)),
        (r#"{"a":"\\","usage":{"prompt_tokens":7}}"#, usage(7, 0)),
        (r#"{"usage":{"prompt_tokens":99999999999999999999999}}"#, usage(1 << 40, 0)),
    ] {
        assert_eq!(json_in_all_ways(text), found, "{text}");
    }
    // As a client's own schema of a tool, which the responses API sends back before the usage.
    for depth in [63, 64, 65, 300] {
        let (open, close) = ("{\"a\":[1,{\"usage\":", "}]}".repeat(depth));
        let deep = format!(
            "{{\"a\":{}{{}}{close},\"usage\":{{\"prompt_tokens\":7}}}}",
            open.repeat(depth)
        );
        assert_eq!(read(AnswerScan::json(), &deep, 1).0, usage(7, 0), "{depth}");
    }
}

#[test]
fn what_ebb_says_itself_is_no_piece_of_the_answer() {
    let piece = "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"a\"}}]}\n\n";
    let own = format!(": ebb-waiting\n{piece}");
    let other = format!(": ebb-wait\n{piece}");
    assert_eq!(events_in_all_ways(&format!("{own}{own}{piece}{other}")), (usage(0, 2), 2));
}

#[test]
fn a_stream_is_counted_by_its_usage_or_by_its_pieces() {
    let chat = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n\
        : a comment with data: {\"choices\":[{\"delta\":{\"content\":\"no\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"\\n\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"{\"}}]}}]}\n\n\
        data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let last = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\n";
    let done = "data: [DONE]\n\n";
    assert_eq!(events_in_all_ways(&format!("{chat}{done}")), (usage(0, 3), 3));
    assert_eq!(events_in_all_ways(&format!("{chat}{last}{done}")), (usage(9, 4), 3));
    for end in ["\r\n", "\r"] {
        let text = format!("{chat}{last}{done}").replace('\n', end);
        assert_eq!(events_in_all_ways(&text), (usage(9, 4), 3), "{end:?}");
    }
    let lines = "data:{\"choices\":\ndata: [{\"text\":\"a\"}]}\n\n";
    assert_eq!(events_in_all_ways(lines), (usage(0, 1), 1));
    let unended = "data: {\"choices\":[{\"text\":\"a\"}]}\n";
    assert_eq!(events_in_all_ways(unended), (usage(0, 0), 0));
}

#[test]
fn the_streams_of_other_apis_are_read_as_well() {
    let messages = "event: message_start\n\
        data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n\
        event: content_block_delta\n\
        data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n\
        event: content_block_delta\n\
        data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"!\"}}\n\n";
    // The client has left.
    assert_eq!(events_in_all_ways(messages), (usage(25, 2), 2));
    let end = "event: message_delta\n\
        data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n";
    assert_eq!(events_in_all_ways(&format!("{messages}{end}")), (usage(25, 15), 2));
    let responses = "event: response.created\n\
        data: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
        event: response.output_text.delta\n\
        data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n\
        event: response.completed\n\
        data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"type\":\"x.delta\"}],\
        \"usage\":{\"input_tokens\":37,\"output_tokens\":11}}}\n\n";
    assert_eq!(events_in_all_ways(responses), (usage(37, 11), 1));
}

/// The same by a parser that keeps the whole.
fn expected(value: &Value) -> Usage {
    let count = |usage: &Value, names: [&str; 2]| {
        names.iter().find_map(|name| usage.get(name)?.as_u64()).unwrap_or(0)
    };
    let of = |usage: &Value| {
        let prompt = count(usage, ["prompt_tokens", "input_tokens"]);
        Usage { prompt, completion: count(usage, ["completion_tokens", "output_tokens"]) }
    };
    value.get("usage").map(of).unwrap_or_default()
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        "[a-z\"\\\\{}\\[\\]:,\u{e9}\n ]{0,12}".prop_map(Value::from),
        Just(json!("usage")),
    ];
    let name =
        prop_oneof!["[a-z\"\\\\{}:,]{0,6}", Just("usage".to_owned()), Just("choices".to_owned())];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever stands around it, and however it is cut, the usage is what a parser finds.
    #[test]
    fn the_usage_is_that_of_a_parser(
        rest in prop::collection::btree_map("[a-z]{1,8}", tree(), 0..6),
        tokens in prop::option::of((any::<u32>(), any::<u32>(), tree())),
        is_pretty in any::<bool>(),
        size in 1_usize..40,
    ) {
        let mut object: serde_json::Map<_, _> = rest.into_iter().collect();
        for name in ["usage", "message", "response"] {
            object.remove(name);
        }
        if let Some((prompt, completion, other)) = tokens {
            let usage = json!({"prompt_tokens": prompt, "completion_tokens": completion, "o": other});
            object.insert("usage".to_owned(), usage);
        }
        let value = Value::Object(object);
        let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.unwrap();
        prop_assert_eq!(read(AnswerScan::json(), &text, size).0, expected(&value));
        let events = format!("data: {}\n\n", serde_json::to_string(&value).unwrap());
        let found = read(AnswerScan::events(), &events, size).0;
        prop_assert_eq!(found.prompt, expected(&value).prompt);
    }

    /// No bytes end it, and no cut changes what it makes of them.
    #[test]
    fn any_bytes_are_read_alike_however_they_are_cut(
        bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), prop::sample::select(&b"{}[]\":,\\\r\ndata: usage"[..])
        ], 0..200),
        size in 1_usize..20,
    ) {
        for scan in [AnswerScan::json, AnswerScan::events] {
            let (mut whole, mut cut) = (scan(), scan());
            let pieces = whole.part(&bytes);
            let parts: u32 = bytes.chunks(size).map(|part| cut.part(part)).sum();
            prop_assert_eq!((whole.usage(), pieces), (cut.usage(), parts));
        }
    }
}
