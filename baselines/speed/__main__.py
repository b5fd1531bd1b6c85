"""Calls a function of a module with arguments in JSON and prints its result in JSON. So scripts/speed.py measures, in
processes of their own."""

import importlib
import json
import sys

module, function, arguments = sys.argv[1:]
print(json.dumps(getattr(importlib.import_module(module), function)(**json.loads(arguments))))
