"""sigstore-python over a folder of bundles: `verify.py FOLDER IDENTITY ISSUER`.

The folder holds `app`, `root.json` and bundles named signed-*.json and attested-*.json. Each must be accepted as it is,
and refused for another identity, for another artifact, and with another signature. Ends with 1 where it is not so.
"""

import base64
import json
import sys
from pathlib import Path

import sigstore
from sigstore.errors import Error
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity

folder, identity, issuer = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
verifier = Verifier(trusted_root=TrustedRoot.from_file(str(folder / "root.json")))
artifact = (folder / "app").read_bytes()


def check(text: str, who: str, about: bytes) -> None:
    bundle, policy = Bundle.from_json(text), Identity(identity=who, issuer=issuer)
    if "dsseEnvelope" not in json.loads(text):
        verifier.verify_artifact(about, bundle, policy)
        return
    kind, payload = verifier.verify_dsse(bundle, policy)
    assert kind == "application/vnd.in-toto+json"
    from hashlib import sha256
    subjects = [subject["digest"]["sha256"] for subject in json.loads(payload)["subject"]]
    if sha256(about).hexdigest() not in subjects:
        raise Error("the statement is about something else")


def changed(text: str) -> str:
    bundle = json.loads(text)
    holder, member = (
        (bundle["dsseEnvelope"]["signatures"][0], "sig") if "dsseEnvelope" in bundle
        else (bundle["messageSignature"], "signature")
    )
    raw = bytearray(base64.b64decode(holder[member]))
    raw[-1] ^= 1
    holder[member] = base64.b64encode(raw).decode()
    return json.dumps(bundle)


print(f"sigstore-python {sigstore.__version__}")
failed = False
for path in sorted([*folder.glob("signed-*.json"), *folder.glob("attested-*.json")]):
    text = path.read_text()
    try:
        check(text, identity, artifact)
        print(f"accepts {path.name}")
    except Error as error:
        failed = True
        print(f"refuses {path.name}: {error}")
    for flaw, arguments in {
        "another identity": (text, "somebody@example.net", artifact),
        "another artifact": (text, identity, b"something else"),
        "another signature": (changed(text), identity, artifact),
    }.items():
        try:
            check(*arguments)
        except Error:
            continue
        failed = True
        print(f"takes {path.name} with {flaw}")
sys.exit(failed)
