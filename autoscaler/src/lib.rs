//! The decision core (pure), the report intake and the PodAutoscaler's status.
