package debvisor.summary_test

import rego.v1
