//! What every process of Ebb needs: logs, metrics, health, drain.
