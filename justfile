# What a maintainer does every day: `just test`. The command lines stand in `.ci/step`, so that `.ci/run` has the same ones
# where `just` is not installed.

_list:
    @just --list

# Formats all code.
fmt:
    .ci/step fmt

# Lints everything.
lint:
    .ci/step lint

# Every test; long ones in their short form.
test *arguments:
    .ci/step test {{ arguments }}

# Every test; long ones in their long form, on all servers.
test-long *arguments:
    .ci/step test-long {{ arguments }}

# Measures; `just bench --help` says what.
bench *arguments:
    .ci/step bench {{ arguments }}

# The documentation, without warnings.
doc:
    .ci/step doc

# Puts faults in on purpose, one after the other, and says which the tests do not notice.
sabotage *arguments:
    .ci/step sabotage {{ arguments }}

# All that has to be well before a change is merged.
ci:
    .ci/run
