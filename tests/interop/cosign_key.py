"""cosign's encrypted key form, by scrypt and NaCl and no code of ours: `cosign_key.py FOLDER PASSWORD`.

Opens release.key and holds it against release.pub; then seals a new key into other.key, with its public half other.pub.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

import nacl.secret
import nacl.utils
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

folder, password = Path(sys.argv[1]), sys.argv[2].encode()
HEAD, FOOT = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----", "-----END ENCRYPTED SIGSTORE PRIVATE KEY-----"
PUBLIC = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo


def box(salt: bytes, cost: int) -> nacl.secret.SecretBox:
    key = hashlib.scrypt(password, salt=salt, n=cost, r=8, p=1, dklen=32, maxmem=256 * 1024 * 1024)
    return nacl.secret.SecretBox(key)


text = (folder / "release.key").read_text().strip()
assert text.startswith(HEAD) and text.endswith(FOOT)
sealed = json.loads(base64.b64decode("".join(text.splitlines()[1:-1])))
assert (sealed["kdf"]["name"], sealed["cipher"]["name"]) == ("scrypt", "nacl/secretbox")
salt, cost = base64.b64decode(sealed["kdf"]["salt"]), sealed["kdf"]["params"]["N"]
nonce, data = base64.b64decode(sealed["cipher"]["nonce"]), base64.b64decode(sealed["ciphertext"])
key = serialization.load_der_private_key(box(salt, cost).decrypt(data, nonce), None)
assert key.public_key().public_bytes(*PUBLIC) == (folder / "release.pub").read_bytes()
print("opens our key")

other = ec.generate_private_key(ec.SECP256R1())
der = other.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
salt, nonce, cost = nacl.utils.random(32), nacl.utils.random(24), 65536
encode = lambda raw: base64.b64encode(raw).decode()
body = json.dumps({
    "kdf": {"name": "scrypt", "params": {"N": cost, "r": 8, "p": 1}, "salt": encode(salt)},
    "cipher": {"name": "nacl/secretbox", "nonce": encode(nonce)},
    "ciphertext": encode(box(salt, cost).encrypt(der, nonce).ciphertext),
}, separators=(",", ":")).encode()
lines = encode(body)
lines = "\n".join(lines[at:at + 64] for at in range(0, len(lines), 64))
(folder / "other.key").write_text(f"{HEAD}\n{lines}\n{FOOT}\n")
(folder / "other.pub").write_bytes(other.public_key().public_bytes(*PUBLIC))
