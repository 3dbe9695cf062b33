# `uv run just check` before each commit; `./scripts/test` is what decides.

# Format, lint, types, import rules, fast tests.
check: format
    uv run ruff check
    uv run mypy
    uv run lint-imports
    uv run pytest -m "not slow" -q -n auto

# Put the code into shape.
format:
    uv run ruff format
    uv run ruff check --fix-only --quiet

# Everything, as CI runs it.
test *ARGS:
    ./scripts/test {{ARGS}}

# Write the generated documents anew.
docs:
    uv run scripts/make_docs.py

# Build the documentation as a site, into site/.
site:
    uv run mkdocs build
