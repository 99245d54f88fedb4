//! Writes defaults into an object without touching anything else in it.

use serde_json::Value;

/// Writes the changes that defaulting made, from the typed object `before` to the typed object
/// `after`, into `target`, the JSON that `before` was read from.
///
/// Fields that are required and absent come along with their empty value, as they do in Knative,
/// whose typed round trip writes `port: 0` into a probe. Fields that the types do not know stay.
/// Recursion is as deep as the typed objects are.
pub(super) fn fill(target: &mut Value, before: Option<&Value>, after: &Value) {
    match (target, after) {
        (Value::Object(target), Value::Object(after)) => {
            for (field, after) in after {
                let before = before.and_then(|before| before.get(field));
                match target.get_mut(field) {
                    Some(value) if !value.is_null() => fill(value, before, after),
                    _ => {
                        target.insert(field.clone(), after.clone());
                    }
                }
            }
        }
        (Value::Array(target), Value::Array(after)) if target.len() == after.len() => {
            for (index, (value, after)) in target.iter_mut().zip(after).enumerate() {
                fill(value, before.and_then(|before| before.get(index)), after);
            }
        }
        (target, after) => {
            if before != Some(after) {
                *target = after.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changed_is_written_and_the_unknown_survives() {
        let mut target = json!({
            "unknown": {"a": 1},
            "cpu": 1.50,
            "list": [{"name": null, "extra": true}],
            "empty": null,
        });
        let before = json!({"cpu": 1.5, "list": [{"port": 0}], "changed": 1});
        let after = json!({
            "cpu": 1.5,
            "list": [{"name": "x", "port": 0}],
            "empty": {"b": 2},
            "changed": 1,
        });
        fill(&mut target, Some(&before), &after);
        assert_eq!(
            target,
            json!({
                "unknown": {"a": 1},
                "cpu": 1.5,
                "list": [{"name": "x", "port": 0, "extra": true}],
                "empty": {"b": 2},
                "changed": 1,
            })
        );
    }

    #[test]
    fn a_list_that_grew_is_replaced() {
        let mut target = json!({"traffic": []});
        let after = json!({"traffic": [{"percent": 100}]});
        fill(&mut target, Some(&json!({})), &after);
        assert_eq!(target, after);
    }
}
