"""An export of the audit log and its verifier key in, "sound" or what is wrong out: a second implementation.

usage: audit_log.py EXPORT VKEY [PROOF...]

It shares no code with DebVisor: hashes by hashlib, as RFC 6962 section 2.1 defines them, signatures by openssl, notes by
the text of C2SP signed-note and tlog-checkpoint.
"""
import base64
import hashlib
import json
import subprocess
import sys
import tempfile


def leaf(data):
    return hashlib.sha256(b"\x00" + data).digest()


def root(leaves):
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    return hashlib.sha256(b"\x01" + root(leaves[:middle]) + root(leaves[middle:])).digest()


def check_note(note, vkey):
    """The size and root of a note that this key signed."""
    name, hint, key = vkey.split("+", 2)
    typed = base64.b64decode(key, validate=True)
    assert typed[0] == 1 and len(typed) == 33, "not an Ed25519 key"
    assert hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4].hex() == hint, "the hint is another key's"
    text, signatures = note.split("\n\n")
    text += "\n"
    origin, size, encoded = text.split("\n")[:3]
    assert origin == name, f"the note is of {origin}"
    line = next(line for line in signatures.splitlines() if line.startswith(f"\u2014 {name} "))
    signed = base64.b64decode(line.split(" ")[2], validate=True)
    assert signed[:4].hex() == hint, "the signature is another key's"
    spki = bytes.fromhex("302a300506032b6570032100") + typed[1:]
    with tempfile.TemporaryDirectory() as folder:
        for file, content in [("key", spki), ("text", text.encode()), ("signature", signed[4:])]:
            with open(f"{folder}/{file}", "wb") as out:
                out.write(content)
        subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", f"{folder}/key", "-rawin"]
            + ["-in", f"{folder}/text", "-sigfile", f"{folder}/signature"],
            check=True, stdout=subprocess.DEVNULL)
    return int(size), base64.b64decode(encoded, validate=True)


def main(export, vkey, proofs):
    leaves = []
    for line in map(json.loads, open(export, encoding="utf-8")):
        if "checkpoint" in line:
            size, promised = check_note(line["checkpoint"], vkey)
            assert size == len(leaves) and promised == root(leaves), "the checkpoint is over other records"
            continue
        assert line["seq"] == len(leaves), f"record {len(leaves)} is missing"
        assert leaf(line["record"].encode()).hex() == line["leaf"], f"record {line['seq']} was altered"
        leaves.append(bytes.fromhex(line["leaf"]))
    for proof in (json.load(open(name, encoding="utf-8")) for name in proofs):
        sides = [("treeSize", "root")] if "root" in proof else [("size1", "root1"), ("size2", "root2")]
        for size, of in sides:
            assert base64.b64decode(proof[of]) == root(leaves[:proof[size]]), f"{of} is another root"
    print(f"sound: {len(leaves)} records, {len(proofs)} proofs")


main(sys.argv[1], sys.argv[2], sys.argv[3:])
