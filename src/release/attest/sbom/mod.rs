//! Bills of materials, written: the neutral model in, a document of either format out.
