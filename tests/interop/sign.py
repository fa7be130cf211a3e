"""sigstore-python signs by our stand-ins: `sign.py FOLDER TOKEN CONFIG NAME`.

CONFIG is a client trust configuration in the folder. Writes NAME-signed.json over `app` and NAME-attested.json about it.
That another client can sign by the stand-ins shows that they speak as the real services do.
"""

import hashlib
import sys
from pathlib import Path

from sigstore.dsse import StatementBuilder, Subject
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext

folder, token, config, name = Path(sys.argv[1]), *sys.argv[2:5]
context = SigningContext.from_trust_config(ClientTrustConfig.from_json((folder / config).read_text()))
artifact = (folder / "app").read_bytes()
statement = (
    StatementBuilder()
    .subjects([Subject(name="app", digest={"sha256": hashlib.sha256(artifact).hexdigest()})])
    .predicate_type("https://in-toto.io/attestation/test-result/v0.1")
    .predicate({"passed": True})
    .build()
)
with context.signer(IdentityToken(token)) as signer:
    (folder / f"{name}-signed.json").write_text(signer.sign_artifact(artifact).to_json())
    (folder / f"{name}-attested.json").write_text(signer.sign_dsse(statement).to_json())
print(f"signed {name}")
