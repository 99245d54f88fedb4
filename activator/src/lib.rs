//! The data plane: routes, queues, pods, balancing, forwarding, reports.
