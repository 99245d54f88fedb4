//! Paths of fields in messages: `spec.template.spec.containers[0].image`.

/// One step from an object to a value inside it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

/// A path that grows and shrinks while an object is walked, without allocating on the way.
#[derive(Debug, Default)]
pub(super) struct Path<'a> {
    steps: Vec<Step<'a>>,
}

// === impl Path ===

impl<'a> Path<'a> {
    /// Goes one step down; every call has its [`Path::leave`].
    pub(super) fn enter(&mut self, step: Step<'a>) {
        self.steps.push(step);
    }

    /// Goes back up.
    pub(super) fn leave(&mut self) {
        self.steps.pop();
    }

    /// The path as text; `name` is one more field at its end.
    pub(super) fn with_field(&self, name: &str) -> String {
        let mut text = self.text();
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(name);
        text
    }

    /// The path as text; empty for the object itself.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            match step {
                Step::Field(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Step::Index(index) => {
                    text.push('[');
                    text.push_str(&index.to_string());
                    text.push(']');
                }
            }
        }
        text
    }
}
