# What a release needs before anybody relies on it.
package debvisor.release

import rego.v1

signatures := object.get(input, ["facts", "signatures"], [])

deny contains {"code": "signature-required", "msg": "no verified signature covers the artifact"} if count(signatures) == 0

identity_named if {
	input.expected.certificate_identity != null
}

identity_named if {
	input.expected.certificate_identity_regexp != null
}

expected_signer if identity_named

expected_signer if input.expected.key == true

expected_signer if input.expected.openpgp == true

expected_signer if input.expected.source_uri != null

deny contains {"code": "identity-required", "msg": "nobody said who was expected to sign"} if not expected_signer
