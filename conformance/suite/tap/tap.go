// Package tap writes the Test Anything Protocol, version 13 (https://testanything.org/tap-version-13-specification.html).
//
// It stands in for github.com/mndrix/tap-go, which Debian does not have: the functions that the validation suite
// calls, and no other.  Diagnostics in YAML are written as JSON, which is YAML as well.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

// T counts the tests of one program; it writes to standard output.
type T struct {
	count *int
	todo  bool
}

// New gives a T that has counted nothing.
func New() *T {
	return &T{count: new(int)}
}

// Todo gives the same T, for tests that are not written yet: their failures do not count.
func (t *T) Todo() *T {
	return &T{count: t.count, todo: true}
}

// Header begins the output.  planned is the number of tests to come, 0 when AutoPlan will tell.
func (t *T) Header(planned int) {
	fmt.Println("TAP version 13")
	if planned > 0 {
		fmt.Printf("1..%d\n", planned)
	}
}

// AutoPlan tells at the end how many tests there were.
func (t *T) AutoPlan() {
	fmt.Printf("1..%d\n", *t.count)
}

// Ok reports a test as passed or failed.
func (t *T) Ok(passed bool, description string) {
	if passed {
		t.Pass(description)
	} else {
		t.Fail(description)
	}
}

// Pass reports a test that passed.
func (t *T) Pass(description string) {
	t.report("ok", description)
}

// Fail reports a test that failed.
func (t *T) Fail(description string) {
	t.report("not ok", description)
}

// Skip reports a number of tests as skipped.
func (t *T) Skip(number int, reason string) {
	for ; number > 0; number-- {
		t.report("ok", "# SKIP "+reason)
	}
}

func (t *T) report(verdict, description string) {
	*t.count++
	if t.todo {
		description = "# TODO " + description
	}
	if !strings.HasPrefix(description, "#") {
		description = "- " + description
	}
	fmt.Printf("%s %d %s\n", verdict, *t.count, oneLine(description))
}

func oneLine(text string) string {
	return strings.ReplaceAll(text, "\n", " ")
}

// Diagnostic writes a remark of any number of lines.
func (t *T) Diagnostic(message string) {
	for _, line := range strings.Split(strings.TrimRight(message, "\n"), "\n") {
		fmt.Printf("# %s\n", line)
	}
}

// Diagnosticf writes a remark.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML writes a value as the block that belongs to the last test.
func (t *T) YAML(value interface{}) error {
	text, err := json.MarshalIndent(value, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("  ---\n  %s\n  ...\n", text)
	return nil
}
