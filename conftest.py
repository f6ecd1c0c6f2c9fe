"""Types are checked while tests run, in those of docstrings too: this file comes before all that import the package."""

from checked_types import check_modules_with_shapes

check_modules_with_shapes()
