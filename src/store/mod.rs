//! What is kept: machines, images, decisions, intents, events and the audit log, in one database.
//! Invariant: a change, its audit record and its event are one transaction. SQL stands in this room and in no other.
