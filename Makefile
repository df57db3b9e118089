# The commands people use on this project; each runs alone as well.
.PHONY: install test slow lint types release check oldest

install:  ## this checkout and what its tests need, into the current environment
	pip install -e '.[test]'

test:  ## quick tests
	pytest

slow:  ## slow tests
	pytest -m slow

lint:  ## lint, and formatting corrected
	ruff check --fix .
	ruff format .

types:
	mypy
	mypy examples/guard-*/src

release:  ## sdist and wheel, built and installed in bare environments
	.ci/release

check:  ## all that a change must pass, in a fresh environment
	.ci/run

oldest:  ## the same on the oldest supported versions
	.ci/run --oldest
