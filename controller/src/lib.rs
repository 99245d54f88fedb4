//! Reconcilers and admission: patches Deployments to match.
