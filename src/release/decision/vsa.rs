//! A decision as a signed, expiring SLSA verification summary (VSA), written and read back.
