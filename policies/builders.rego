package debvisor.builders

import rego.v1

deny contains {"code": "builder-untrusted", "msg": "to be written"}
