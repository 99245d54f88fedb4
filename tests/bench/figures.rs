//! Figures, and the table that shows them.

use serde::Serialize;

/// One measured value, with the goal and the figure that it was paired with.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The value should not exceed this; `None` for a figure that only informs.
    pub(crate) goal: Option<f64>,
    pub(crate) paired: Option<Paired>,
}

/// The figure that another was paired with, from the same run.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Paired {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

/// The middle value; the lower of two in an even list.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// The figures as an aligned table.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut text = format!("\n{:<44} {:>10} {:<6} {:>8}  beside\n", "what", "value", "", "goal");
    for Figure { name, value, unit, goal, paired } in figures {
        let goal = goal.map_or_else(|| "-".to_owned(), |goal| goal.to_string());
        let beside = paired.as_ref().map_or_else(String::new, |paired| {
            format!("{} {:.1} {}", paired.name, paired.value, paired.unit)
        });
        let row = format!("{name:<44} {value:>10.2} {unit:<6} {goal:>8}  {beside}\n");
        text.push_str(&row);
    }
    text
}
