//! The store of images on a node: bytes go in once, hashed on the way; they come out proved, by descriptor or by block.
