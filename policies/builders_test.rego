package debvisor.builders_test

import rego.v1
