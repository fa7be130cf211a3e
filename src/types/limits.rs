//! Every bound on what an outsider controls, in one place. Passing one is a refusal with a code, never a crash.
//! Sizes are in bytes. `docs/reference/limits.md` lists them for users; a test keeps the two alike.

/// A Sigstore bundle, or one line of a JSON Lines file.
pub const BUNDLE_BYTES: u64 = 16 * 1024 * 1024;
/// A file of evidence of any kind that is read whole into memory.
pub const EVIDENCE_BYTES: u64 = 64 * 1024 * 1024;
/// Bundles in one JSON Lines file.
pub const BUNDLES_PER_FILE: usize = 10_000;
/// Nesting of a JSON document.
pub const JSON_DEPTH: usize = 128;
/// Members and elements of a JSON document, all together.
pub const JSON_NODES: usize = 4_000_000;
/// A certificate, in DER.
pub const CERTIFICATE_BYTES: usize = 64 * 1024;
/// Certificates in a bundle's chain.
pub const CERTIFICATES: usize = 8;
/// Log entries in a bundle.
pub const LOG_ENTRIES: usize = 32;
/// RFC 3161 timestamps in a bundle.
pub const TIMESTAMPS: usize = 32;
/// One RFC 3161 timestamp, in DER.
pub const TIMESTAMP_BYTES: usize = 64 * 1024;
/// Hashes in a Merkle proof; a tree of 2^63 leaves needs no more.
pub const PROOF_HASHES: usize = 64;
/// Signature lines on a checkpoint.
pub const CHECKPOINT_SIGNATURES: usize = 64;
/// A checkpoint's text.
pub const CHECKPOINT_BYTES: usize = 64 * 1024;
/// Subjects of one in-toto statement.
pub const STATEMENT_SUBJECTS: usize = 20_000;
/// Signed certificate timestamps in a certificate.
pub const SCTS: usize = 16;
/// A `trusted_root.json`.
pub const TRUST_ROOT_BYTES: u64 = 4 * 1024 * 1024;
/// Authorities and logs of one kind in a trust root.
pub const TRUST_ROOT_AUTHORITIES: usize = 256;
/// A TUF metadata file, the timestamp excepted.
pub const TUF_METADATA_BYTES: u64 = 2 * 1024 * 1024;
/// A TUF timestamp.
pub const TUF_TIMESTAMP_BYTES: u64 = 16 * 1024;
/// New TUF roots that one update walks through.
pub const TUF_ROOT_ROTATIONS: u32 = 256;
/// Roles that one search for a TUF target visits.
pub const TUF_DELEGATIONS: u32 = 32;
/// How long one update of the trust root may take when `--timeout` does not say, in milliseconds.
pub const TUF_UPDATE_MS: u64 = 120_000;
/// How long one exchange with a signing service may take when `--timeout` does not say, in milliseconds.
/// A log of version 2 answers when its next checkpoint is there, which takes tens of seconds at times.
pub const SERVICE_EXCHANGE_MS: u64 = 60_000;
/// A trust bundle, signatures included.
pub const TRUST_BUNDLE_BYTES: u64 = 32 * 1024 * 1024;
/// Signatures on a trust bundle.
pub const TRUST_BUNDLE_SIGNATURES: usize = 64;
/// Roots, policies, keys and keyrings of a trust bundle, of each kind.
pub const TRUST_BUNDLE_ITEMS: usize = 1_000;
/// Revocations in a trust bundle.
pub const TRUST_BUNDLE_REVOCATIONS: usize = 100_000;
/// A checksum list.
pub const CHECKSUM_LIST_BYTES: u64 = 32 * 1024 * 1024;
/// Lines of a checksum list.
pub const CHECKSUM_LINES: usize = 500_000;
/// An OpenPGP signature file.
pub const OPENPGP_SIGNATURE_BYTES: u64 = 1024 * 1024;
/// Signatures in one OpenPGP signature file.
pub const OPENPGP_SIGNATURES: usize = 64;
/// An OpenPGP keyring.
pub const OPENPGP_KEYRING_BYTES: u64 = 32 * 1024 * 1024;
/// Members of an archive.
pub const ARCHIVE_MEMBERS: usize = 1_000_000;
/// A member's name in an archive.
pub const ARCHIVE_NAME_BYTES: usize = 4096;
/// What an archive may unpack to when `--max-unpacked-size` does not say.
pub const ARCHIVE_UNPACKED_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// What a disk image may hold, as its guest sees it.
pub const DISK_VIRTUAL_BYTES: u64 = 64 * 1024 * 1024 * 1024 * 1024;
/// The L1 table of a qcow2 image; QEMU's own bound.
pub const DISK_L1_BYTES: u64 = 32 * 1024 * 1024;
/// The refcount table of a qcow2 image; QEMU's own bound.
pub const DISK_REFCOUNT_TABLE_BYTES: u64 = 8 * 1024 * 1024;
/// What is read of one disk image, a part that is read twice counting twice.
pub const DISK_READ_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Partitions of a disk image.
pub const DISK_PARTITIONS: u32 = 256;
/// Block groups of an ext4 file system.
pub const DISK_EXT4_GROUPS: u64 = 1024 * 1024;
/// Layers of a container image.
pub const IMAGE_LAYERS: usize = 512;
/// A Rego policy file.
pub const POLICY_BYTES: u64 = 4 * 1024 * 1024;
/// Files of one policy set.
pub const POLICY_FILES: usize = 1_000;
/// How long one evaluation of a policy may take, in milliseconds.
pub const POLICY_TIME_MS: u64 = 10_000;
/// Reasons that one policy may give for one subject.
pub const POLICY_REASONS: usize = 1_000;
/// An image of a node's store.
pub const IMAGE_BYTES: u64 = 8 * 1024 * 1024 * 1024 * 1024;
/// An image that is copied into sealed memory at start: a kernel, an initrd, firmware or an option ROM.
pub const IMAGE_SEALED_BYTES: u64 = 1024 * 1024 * 1024;
/// A node's receipt for an image.
pub const IMAGE_RECEIPT_BYTES: u64 = 64 * 1024;
/// A name that somebody gives an image, or a document beside it.
pub const IMAGE_NAME_BYTES: usize = 255;
/// Documents that are kept beside one image.
pub const IMAGE_DOCUMENTS: usize = 256;
/// Uploads of images that are open at once.
pub const IMAGE_UPLOADS: usize = 64;
/// One piece of an upload.
pub const IMAGE_UPLOAD_PIECE_BYTES: usize = 64 * 1024 * 1024;
/// What one request to the block server may read.
pub const BLOCK_READ_BYTES: u32 = 32 * 1024 * 1024;
/// An option that a client sends the block server before it reads.
pub const BLOCK_OPTION_BYTES: u32 = 4096;
/// Options that a client may send the block server before it reads.
pub const BLOCK_OPTIONS: usize = 64;
/// Connections to one block server at once.
pub const BLOCK_CONNECTIONS: usize = 16;
/// How long a client of the block server may take to say what it wants, in milliseconds.
pub const BLOCK_HANDSHAKE_MS: u64 = 10_000;
/// A managed public key in PEM.
pub const KEY_BYTES: u64 = 64 * 1024;
/// Files of a release directory.
pub const RELEASE_FILES: usize = 100_000;
/// Artifact bytes that are read into memory where a signature scheme needs all of them (pure Ed25519).
pub const WHOLE_ARTIFACT_BYTES: u64 = 256 * 1024 * 1024;
/// Nesting of a member's directories in an archive.
pub const ARCHIVE_DEPTH: usize = 256;
/// The names and link targets of an archive's members, all together.
pub const ARCHIVE_NAMES_BYTES: u64 = 256 * 1024 * 1024;
/// What an archive says of one member besides its content: a long name, pax records, extra fields.
pub const ARCHIVE_METADATA_BYTES: u64 = 1024 * 1024;
/// Reasons that one file of evidence may give; more are counted and not listed.
pub const REASONS_PER_FILE: usize = 100;
/// Lines of one Rego policy file.
pub const POLICY_LINES: usize = 200_000;
/// Rules of one policy set, all files together.
pub const POLICY_RULES: usize = 5_000;
/// Nesting of brackets in a policy file.
pub const POLICY_NESTING: usize = 16;
/// Rules and functions of a policy that depend on each other in one chain.
pub const POLICY_CALL_DEPTH: usize = 256;
/// Characters of one message of a policy.
pub const POLICY_MESSAGE_CHARS: usize = 4_096;
/// Numbers that one `numbers.range` of a policy may yield.
pub const POLICY_RANGE: u64 = 1_000_000;
/// Stack of the thread that runs a user's policy: the longest chain of rules must fit.
pub const POLICY_STACK_BYTES: usize = 1024 * 1024 * 1024;
/// Files, directories and links of a tree that a bill of materials is made of.
pub const SBOM_TREE_ENTRIES: usize = 4_000_000;
/// A manifest, lock file or package database that a bill of materials is made of.
pub const SBOM_SOURCE_BYTES: u64 = 256 * 1024 * 1024;
/// A Debian copyright file that a package's licence is read from.
pub const SBOM_COPYRIGHT_BYTES: u64 = 4 * 1024 * 1024;
/// rpm's database.
pub const SBOM_RPM_DATABASE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// One package's header in rpm's database.
pub const SBOM_RPM_HEADER_BYTES: u64 = 64 * 1024 * 1024;
/// Components of a bill of materials that is made.
pub const SBOM_COMPONENTS: usize = 500_000;
/// The version of a component of a bill of materials that is made; CycloneDX has no room for a longer one.
pub const SBOM_VERSION_CHARS: usize = 1_024;
/// Dependencies and containments of a bill of materials that is made.
pub const SBOM_EDGES: usize = 5_000_000;
/// Disks of one machine: so many slots are wired when it starts.
pub const MACHINE_DISKS: usize = 8;
/// Drives for ISO images of one machine.
pub const MACHINE_ISOS: usize = 4;
/// Network cards of one machine.
pub const MACHINE_NICS: usize = 8;
/// Virtual processors of one machine.
pub const MACHINE_CPUS: u32 = 255;
/// Memory of one machine, in MiB.
pub const MACHINE_MEMORY_MIB: u64 = 4 * 1024 * 1024;
/// A kernel's command line; Linux itself reads 2,048 bytes of it on x86.
pub const KERNEL_COMMAND_LINE_BYTES: usize = 2_047;
/// One message of a hypervisor's monitor or of a guest's agent, in one line.
pub const MONITOR_LINE_BYTES: usize = 4 * 1024 * 1024;
/// What a guest's serial console may write before the older half is dropped.
pub const CONSOLE_LOG_BYTES: u64 = 1024 * 1024;
/// An admission ticket or an override.
pub const TICKET_BYTES: u64 = 1024 * 1024;
/// Artifacts of one machine.
pub const TICKET_ARTIFACTS: usize = 256;
/// Files of evidence for one image.
pub const ADMISSION_EVIDENCE_FILES: usize = 1_000;
/// Images of which a node remembers what OpenPGP signatures and rare algorithms asked for; then it forgets all of it.
pub const ADMISSION_HASHES: usize = 1_000;
/// Signers of an admission configuration.
pub const ADMISSION_SIGNERS: usize = 1_000;
/// A manifest, an index or a list of referrers of a registry.
pub const REGISTRY_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
/// Pages of one list of referrers.
pub const REFERRER_PAGES: usize = 50;
/// Referrers of one image that are looked at.
pub const REFERRERS: usize = 1_000;
/// Everything that is attached to one image, all together.
pub const IMAGE_EVIDENCE_BYTES: u64 = 256 * 1024 * 1024;
/// Manifests of an index, or layers of a manifest.
pub const IMAGE_PARTS: usize = 10_000;
/// One layer of an image that is fetched.
pub const IMAGE_BLOB_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// How long one exchange with a registry may take when `--timeout` does not say, in milliseconds; a layer may take
/// longer, as long as it goes on.
pub const REGISTRY_EXCHANGE_MS: u64 = 60_000;
/// The longest wait that a registry's `Retry-After` may ask for, in milliseconds.
pub const REGISTRY_RETRY_MS: u64 = 20_000;
/// Docker's configuration, and what a credential helper answers.
pub const DOCKER_CONFIG_BYTES: u64 = 1024 * 1024;
/// How long a credential helper may take, in milliseconds.
pub const CREDENTIAL_HELPER_MS: u64 = 30_000;
/// A configuration file.
pub const CONFIG_BYTES: u64 = 1024 * 1024;
/// What is read of one program's headers to see whether it tells what it is made of.
pub const SBOM_BINARY_HEADER_BYTES: u64 = 256 * 1024 * 1024;
/// A program that tells what it is made of.
pub const SBOM_BINARY_BYTES: u64 = 1024 * 1024 * 1024;
/// Sections of a program that is looked into.
pub const SBOM_BINARY_SECTIONS: usize = 20_000;
/// What Go wrote into a program about its build.
pub const GO_BUILD_INFO_BYTES: u64 = 64 * 1024 * 1024;
/// What cargo-auditable wrote into a program, unpacked.
pub const AUDIT_DATA_BYTES: usize = 64 * 1024 * 1024;
/// Issues or comments that one run of `notify` looks through.
pub const WATCH_ISSUES: usize = 5_000;
/// Advisories of one export; OSV's of all ecosystems are fewer.
pub const ADVISORIES: usize = 2_000_000;
/// The first pause before a server that failed is asked again, in milliseconds; doubled each time.
pub const WATCH_PAUSE_MS: u64 = 500;
/// One advisory.
pub const ADVISORY_BYTES: u64 = 16 * 1024 * 1024;
/// Releases of one repository that one run looks at when `--last` does not say.
pub const WATCH_RELEASES: usize = 1_000;
/// A workflow, or the description of an action.
pub const WORKFLOW_BYTES: u64 = 1024 * 1024;
/// Values of a workflow, an alias counted as often as it stands there.
pub const WORKFLOW_NODES: usize = 100_000;
/// Findings of a linter that become one SARIF run; code scanning takes no more.
pub const LINT_RESULTS: usize = 25_000;
/// Components that a manifest of a release may name.
pub const RELEASE_COMPONENTS: usize = 1_000;

/// The body of a request to the control plane where it is a piece of an upload, evidence, or a review of Kubernetes.
pub const API_BODY_BYTES: usize = 64 * 1024 * 1024;
/// The body of a request to the control plane where it is a document.
pub const API_DOCUMENT_BYTES: usize = 1024 * 1024;
/// The address of a request to the control plane, with what stands behind the question mark.
pub const API_ADDRESS_BYTES: usize = 8 * 1024;
/// The header fields of a request to the control plane, all together.
pub const API_HEADERS_BYTES: usize = 32 * 1024;
/// What is still read of a request to the control plane that was refused.
pub const API_HEARD_OUT_BYTES: usize = 256 * 1024;
/// How long it is read, in milliseconds.
pub const API_HEARD_OUT_MS: u64 = 1_000;
/// How long a request to the control plane may take, in seconds; what waits on purpose waits for less.
pub const API_REQUEST_SECONDS: u64 = 90;
/// How long a request may take that moves or reads images, the audit log or the state, in seconds.
pub const API_LONG_REQUEST_SECONDS: u64 = 3_600;
/// Images of one Kubernetes workload that are asked about.
pub const ADMISSION_WEBHOOK_IMAGES: usize = 64;
/// How long an answer to Kubernetes may take at most, in seconds; it waits for less where it says so.
pub const ADMISSION_WEBHOOK_SECONDS: u64 = 10;
/// A reference of a container image.
pub const IMAGE_REFERENCE_BYTES: usize = 1024;
/// Answers about container images that are remembered for a moment.
pub const ADMISSIONS_REMEMBERED: usize = 1_000;
/// Rows that one request for a narrowed list looks at before it says where to go on.
pub const API_LOOKED_THROUGH: u32 = 10_000;
/// Images that are decided about for one request for a list by decision.
pub const API_IMAGES_DECIDED: u32 = 100;
/// A parameter of a request to the control plane that has no bound of its own.
pub const API_PARAMETER_BYTES: usize = 1024;
/// A text in a document that is sent to the control plane and has no bound of its own.
pub const API_TEXT_BYTES: usize = 64 * 1024;
/// Items of one page of a list.
pub const API_PAGE_ITEMS: u32 = 1_000;
/// How long a client may take for its half of a TLS handshake, in milliseconds.
pub const TLS_HANDSHAKE_MS: u64 = 10_000;
/// How long a client may take from one request's end to the end of the next one's header, in milliseconds.
pub const API_HEADER_MS: u64 = 30_000;
/// The header of a request.
pub const API_HEADER_BYTES: usize = 64 * 1024;
/// The header of a request over HTTP/2.
pub const API_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// How long nothing of a request's body may come, in milliseconds.
pub const API_BODY_PAUSE_MS: u64 = 30_000;
/// Requests at once over one connection of HTTP/2.
pub const API_STREAMS: u32 = 100;
/// An idempotency key.
pub const API_KEY_BYTES: usize = 255;
/// How long a request may wait for an event or the end of an operation, in seconds.
pub const API_WAIT_SECONDS: u64 = 60;
/// Tenants.
pub const ACCESS_TENANTS: u32 = 1_000;
/// Projects of all tenants together.
pub const ACCESS_PROJECTS: u32 = 10_000;
/// Roles that somebody made.
pub const ACCESS_ROLES: u32 = 1_000;
/// Grants.
pub const ACCESS_GRANTS: u32 = 10_000;
/// Addresses and ranges that one grant is limited to.
pub const ACCESS_ADDRESSES: usize = 64;
/// The description of a tenant, a project or a role.
pub const ACCESS_DESCRIPTION_BYTES: usize = 1_024;
/// What is told of a serial console that is not followed.
pub const API_CONSOLE_BYTES: usize = 1024 * 1024;

/// How long an API key lasts at most, in days; the configuration may say less.
pub const KEY_DAYS: i64 = 90;
/// How long a key that was rotated stays valid at most, in days.
pub const KEY_OVERLAP_DAYS: i64 = 7;
/// Living keys of one user.
pub const KEYS_PER_USER: u32 = 100;
/// A key's name.
pub const KEY_NAME_BYTES: usize = 64;
/// Address ranges of one key.
pub const KEY_ADDRESSES: usize = 32;
/// What a service's certificate may be known by.
pub const SERVICE_MARKS: usize = 32;
/// One mark of a service.
pub const SERVICE_MARK_BYTES: usize = 2048;
/// One answer of an OpenID provider.
pub const OPENID_ANSWER_BYTES: usize = 1024 * 1024;
/// How long one exchange with an OpenID provider may take, in milliseconds.
pub const OPENID_EXCHANGE_MS: u64 = 10_000;
/// An ID token that a program brings.
pub const OPENID_TOKEN_BYTES: usize = 16 * 1024;
/// What an OpenID provider calls a person; the specification allows no more.
pub const OPENID_SUBJECT_BYTES: usize = 255;
/// Logins by OpenID within ten minutes that are remembered so that none is repeated.
pub const OPENID_TAKEN: usize = 100_000;
/// The name of a user.
pub const USER_NAME_BYTES: usize = 64;
/// The fewest characters of a password.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// The most characters of a password.
pub const PASSWORD_CHARS_MAX: usize = 128;
/// Logins that wait for their password to be checked; one takes 19 MiB while it is.
pub const LOGINS_WAITING: usize = 64;
/// Logins from unknown addresses that are slowed down at once.
pub const LOGINS_SLOWED: usize = 4_096;
/// Addresses, users or pairs of them that are counted at once; beyond it the older half is forgotten.
pub const RATE_ENTRIES: usize = 65_536;
/// Sessions that are remembered between requests, and API keys as well.
pub const CREDENTIALS_REMEMBERED: usize = 10_000;
/// What is kept of the name by which a program calls itself.
pub const USER_AGENT_CHARS: usize = 200;
/// Live connections, all together.
pub const LIVE_CONNECTIONS: usize = 1_024;
/// Live connections of one caller.
pub const LIVE_CONNECTIONS_OF_ONE: usize = 64;
/// A message of whoever follows events.
pub const LIVE_MESSAGE_BYTES: usize = 4 * 1024;
/// A message of whoever types into a console.
pub const LIVE_CONSOLE_BYTES: usize = 64 * 1024;
/// What waits for one live connection to take it, and one message.
pub const LIVE_BUFFER_BYTES: usize = 64 * 1024;
/// Events that are sent in one go.
pub const LIVE_PAGE_EVENTS: u32 = 256;
/// The newest events, which are kept once for everybody who follows.
pub const LIVE_RECENT_EVENTS: usize = 2_048;
/// How long a live connection may take for what it was sent, in seconds.
pub const LIVE_SLOW_SECONDS: u64 = 5;
/// What whoever attaches to a console is shown of what was said before.
pub const CONSOLE_REPLAY_BYTES: usize = 64 * 1024;
/// Pieces of a console's output that a reader may be behind.
pub const CONSOLE_PIECES: usize = 256;
/// Recipients of one backup of the state.
pub const BACKUP_RECIPIENTS: usize = 64;
/// Files of one backup of the state.
pub const BACKUP_FILES: usize = 1_000_000;
/// The passphrase of a backup.
pub const BACKUP_PASSPHRASE_BYTES: usize = 1_024;
/// One line of an export of the audit log.
pub const AUDIT_LINE_BYTES: u64 = 16 * 1024 * 1024;
