package debvisor.release_test

import rego.v1
