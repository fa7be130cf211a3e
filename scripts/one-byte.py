#!/usr/bin/env python3
"""Changes one byte in each file of a sealed release, one after the other, and sees the gate refuse it with the right code.

usage: one-byte.py DEBVISOR RELEASE KEY.pub
"""
import json
import pathlib
import subprocess
import sys

debvisor, release, key = sys.argv[1:]
release = pathlib.Path(release)

# By the end of a file's name: a text in it of which one byte is changed, and the code that must be among the reasons.
KINDS = [
    ('SHA256SUMS.sigstore.json', b'"signature":"M', 'signature-invalid'),
    ('SHA256SUMS', b'  release.manifest.jso', 'file-missing'),
    ('release.manifest.json', b'"role": "artifac', 'manifest-mismatch'),
    ('.attestations.jsonl', b'"sig":"M', 'signature-invalid'),
    ('.sigstore.json', b'"signature":"M', 'signature-invalid'),
    ('.cdx.json', b'"bomForma', 'document-malformed'),
    ('.spdx.json', b'"SPDXRef-DOCUMEN', 'checksum-mismatch'),
    ('.vex.json', b'"bomForma', 'document-malformed'),
    ('', None, 'checksum-mismatch'),
]


def gate():
    done = subprocess.run([debvisor, 'gate', release, '--key', key, '--require', 'signature,sbom,provenance,vex',
                           '--format', 'json'], capture_output=True, text=True)
    return done.returncode, {reason['code'] for reason in json.loads(done.stdout)['reasons']}


assert gate() == (0, set()), gate()
for path in sorted(path for path in release.rglob('*') if path.is_file()):
    _, text, code = next(kind for kind in KINDS if path.name.endswith(kind[0]))
    sound = path.read_bytes()
    if text is None:
        at = len(sound) // 2
    else:
        at = sound.find(text)
        assert at >= 0, f'{path.name} has no {text}'
        at += len(text)
    # Another letter in a text, another bit in bytes.
    other = bytes([sound[at] ^ 1])
    with open(path, 'r+b') as file:
        file.seek(at)
        file.write(other)
    exit_code, codes = gate()
    with open(path, 'r+b') as file:
        file.seek(at)
        file.write(sound[at:at + 1])
    if exit_code != 1 or code not in codes:
        sys.exit(f'{path.name}, byte {at}: exit code {exit_code}, {sorted(codes)}, where {code} was expected')
    print(f'  {path.name}: one byte, refused: {code}')
assert gate() == (0, set()), gate()
