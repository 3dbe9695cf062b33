# Run `uv run just check` before each commit; CI runs `./scripts/test`.

# Format, lint, types, import rules, fast tests.
check: format
    uv run ruff check
    uv run mypy
    uv run lint-imports
    uv run pytest -m "not slow" -q -n auto

# Format the code and apply safe lint fixes.
format:
    uv run ruff format
    uv run ruff check --fix-only --quiet

# Everything, as CI runs it.
test *ARGS:
    ./scripts/test {{ARGS}}

# Generate the reference documents from the code.
docs:
    uv run scripts/make_docs.py

# Build the documentation as a site, into site/.
site:
    uv run mkdocs build
