package debvisor.admission_test

import rego.v1
