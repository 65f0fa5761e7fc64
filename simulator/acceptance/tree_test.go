package acceptance

import (
	"fmt"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// checkUnit is every rule for one package.
func checkUnit(u *unit) []string {
	var broken []string
	broken = append(broken, checkImports(u, rows())...)
	broken = append(broken, checkPurity(u)...)
	broken = append(broken, checkState(u)...)
	broken = append(broken, checkComment(u)...)
	return append(broken, checkHabits(u)...)
}

// TestTree holds this tree against the rules of its architecture: who may
// import whom, what is pure, where things stand.
func TestTree(t *testing.T) {
	root, err := moduleRoot()
	require.NoError(t, err)
	units, err := loadTree(root)
	require.NoError(t, err)
	require.NotEmpty(t, units)
	var broken []string
	for _, u := range units {
		broken = append(broken, checkUnit(u)...)
	}
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	folders, err := listFolders(root)
	require.NoError(t, err)
	broken = append(broken, checkPlaces(names, folders)...)
	require.Empty(t, broken, "broken rules:\n%s", strings.Join(broken, "\n"))
}

// fake makes a package out of one file's text.
func fake(t *testing.T, path, file, text string) *unit {
	t.Helper()
	u := &unit{path: path, fset: token.NewFileSet()}
	require.NoError(t, u.add(file, text))
	return u
}

const fakeComment = "// Package p is made up, to show that the rules of this tree are kept.\n"

// TestTreeRulesRefuse breaks each rule once and wants to hear of it.
func TestTreeRulesRefuse(t *testing.T) {
	const impure, plain = "protocol/p", "firmware-agent/internal/bus"
	for name, c := range map[string]struct{ path, file, body, want string }{
		"no row":            {"backend/internal/p", "p.go", "", "has no row"},
		"another program":   {"firmware-agent/agent", "p.go", `import _ "batteryswap/backend/fleet"`, "may not import batteryswap/backend/fleet"},
		"library":           {plain, "p.go", `import _ "github.com/jackc/pgx/v5"`, "may not import github.com/jackc/pgx/v5"},
		"cabinet of link":   {"firmware-agent/internal/cabinet", "p.go", `import _ "batteryswap/firmware-agent/internal/link"`, "may not import"},
		"web of postgres":   {"backend/internal/web", "p.go", `import _ "batteryswap/backend/internal/postgres"`, "may not import"},
		"test of pgx":       {"simulator/acceptance", "p_test.go", `import _ "github.com/jackc/pgx/v5"`, "may not import"},
		"testing":           {plain, "p.go", `import _ "testing"`, "outside a test"},
		"testify":           {plain, "p.go", `import _ "github.com/stretchr/testify/require"`, "may not import"},
		"test helper":       {"backend/fleet", "p.go", `import _ "batteryswap/firmware-agent/internal/driver/drivertest"`, "may not import"},
		"os":                {impure, "p.go", `import _ "os"`, "imports os, but the package is pure"},
		"net":               {impure, "p.go", `import _ "net/http"`, "imports net/http, but the package is pure"},
		"clock":             {impure, "p.go", "import \"time\"\nvar x = time.Now", "uses time.Now"},
		"renamed clock":     {impure, "p.go", "import tt \"time\"\nfunc f() { tt.Sleep(1) }", "uses time.Sleep"},
		"timer":             {impure, "p.go", "import \"time\"\nfunc f() { time.NewTimer(1) }", "uses time.NewTimer"},
		"dot import":        {impure, "p.go", `import . "time"`, "a dot import"},
		"global randomness": {impure, "p.go", "import \"math/rand/v2\"\nfunc f() int { return rand.IntN(3) }", "the global source of math/rand/v2"},
		"goroutine":         {impure, "p.go", "func f() { go f() }", "a go statement"},
		"init":              {plain, "p.go", "func init() {}", "has an init function"},
		"printing":          {impure, "p.go", "import \"fmt\"\nfunc f() { fmt.Println() }", "uses fmt.Println"},
		"state":             {plain, "p.go", "var n int", "has no value"},
		"map":               {plain, "p.go", "var m = map[int]int{}\nfunc f() { m[1] = 2 }", "variable m is written"},
		"counter":           {plain, "p.go", "var n = 0\nfunc f() { n++ }", "variable n is written"},
		"address":           {plain, "p.go", "var n = 0\nfunc f() *int { return &n }", "variable n is written"},
		"delete":            {plain, "p.go", "var m = map[int]int{1: 1}\nfunc f() { delete(m, 1) }", "variable m is written"},
		"field":             {plain, "p.go", "var s = struct{ a int }{1}\nfunc f() { s.a = 2 }", "variable s is written"},
		"make":              {plain, "p.go", "var c = make(chan int)", "made empty"},
		"pointer":           {plain, "p.go", "var c = &struct{}{}", "is a pointer"},
		"mutex":             {plain, "p.go", "import \"sync\"\nvar c = sync.Mutex{}", "of sync"},
		"exported table":    {plain, "p.go", "var Table = []int{1}", "is exported"},
		"sleep":             {plain, "p_test.go", "import \"time\"\nfunc f() { time.Sleep(1) }", "calls time.Sleep"},
		"skip":              {plain, "p_test.go", "func f(t interface{ Skip(...any) }) { t.Skip() }", "calls Skip"},
		"assert":            {plain, "p_test.go", `import _ "github.com/stretchr/testify/assert"`, "use require"},
		"note":              {plain, "p.go", "// TO" + "DO: later", "says"},
	} {
		t.Run(name, func(t *testing.T) {
			u := fake(t, c.path, c.file, fakeComment+"package p\n\n"+c.body+"\n")
			broken := checkUnit(u)
			require.Contains(t, strings.Join(broken, "\n"), c.want)
			require.Contains(t, strings.Join(broken, "\n"), c.path+": ")
		})
	}
}

// TestTreeRulesAllow keeps the rules from refusing what is meant to be allowed.
func TestTreeRulesAllow(t *testing.T) {
	for name, c := range map[string]struct{ path, file, body string }{
		"own protocol":      {"protocol/p", "p.go", `import _ "batteryswap/protocol"`},
		"below a library":   {"backend/fleet", "p.go", `import _ "github.com/prometheus/client_golang/prometheus"`},
		"duration":          {"protocol/p", "p.go", "import \"time\"\nvar x = time.Second"},
		"seeded randomness": {"protocol/p", "p.go", "import \"math/rand/v2\"\nfunc f() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }"},
		"sentinels":         {"protocol/p", "p.go", "import \"errors\"\nvar ErrX = errors.New(\"x\")"},
		"table":             {"protocol/p", "p.go", "var t = [...]string{1: \"a\"}\nfunc f() string { return t[1] }"},
		"local of the name": {"protocol/p", "p.go", "var t = 1\nfunc f() int { t := 2; t = 3; return t }\nfunc g(t int) int { t++; return t }"},
		"interface check":   {"protocol/p", "p.go", "type T struct{}\nvar _ interface{} = (*T)(nil)"},
		"embedded":          {"backend/internal/web", "p.go", "import \"embed\"\n//go:embed x\nvar files embed.FS"},
		"sleep":             {"firmware-agent/internal/bus", "p.go", "import \"time\"\nfunc f() { time.Sleep(1) }"},
		"sleep in a bubble": {"firmware-agent/internal/bus", "p_test.go", "import \"time\"\nimport _ \"testing/synctest\"\nfunc f() { time.Sleep(1) }"},
		"test state":        {"protocol/p", "p_test.go", "var n int\nfunc f() { n++ }"},
		"test library":      {"protocol/p", "p_test.go", "import _ \"pgregory.net/rapid\"\nimport _ \"github.com/stretchr/testify/require\""},
		"test of programs":  {"simulator/acceptance", "p_test.go", "import _ \"batteryswap/firmware-agent/agent\"\nimport _ \"batteryswap/backend/fleet\""},
		"test helper":       {"backend/internal/postgres", "p_test.go", `import _ "batteryswap/backend/internal/postgres/pgtest"`},
	} {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, checkUnit(fake(t, c.path, c.file, fakeComment+"package p\n\n"+c.body+"\n")))
		})
	}
}

func TestTreeWantsPackageComments(t *testing.T) {
	require.Contains(t, fmt.Sprint(checkComment(fake(t, "protocol/p", "p.go", "package p"))), "no comment of at least")
	require.Contains(t, fmt.Sprint(checkComment(fake(t, "protocol/p", "p.go", "// Package p is short.\npackage p"))), "no comment of at least")
	require.Contains(t, fmt.Sprint(checkComment(fake(t, "protocol/p", "p.go", "// This is p.\npackage p"))), "must begin with")
	require.Contains(t, fmt.Sprint(checkComment(fake(t, "backend", "main.go", "package main"))), "no comment of at least")
}

func TestTreePlaces(t *testing.T) {
	require.Empty(t, checkPlaces([]string{"protocol", "go.mod", ".ci", "README.md"}, []string{"protocol/modbus"}))
	require.Equal(t, []string{
		"docs: may not stand at the root of the tree",
		"backend/internal/util: the name says nothing of what is inside",
		"simulator/cmd: the name says nothing of what is inside",
	}, checkPlaces([]string{"docs"}, []string{"backend/internal/util", "simulator/cmd"}))
}
