//! The interface of the control plane: REST under `/v1`, on a unix socket of the host.
//! Handlers extract, authorize, operate and return; nothing of the database reaches a body.
