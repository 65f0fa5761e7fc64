package acceptance

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// matches reports whether an import path fits a pattern of the table.
func matches(pattern, p string) bool {
	prefix, below := strings.CutSuffix(pattern, "/...")
	want, have := strings.Split(prefix, "/"), strings.Split(p, "/")
	if len(have) < len(want) || len(have) > len(want) && !below {
		return false
	}
	for i, w := range want {
		if w != "*" && w != have[i] {
			return false
		}
	}
	return true
}

func matchesAny(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, p) })
}

// covers reports whether an allowed library covers an import path.
func covers(libraries []string, p string) bool {
	return slices.ContainsFunc(libraries, func(l string) bool { return p == l || strings.HasPrefix(p, l+"/") })
}

// standard reports whether a path is of the standard library.
func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".") && first != module
}

func rowOf(table []row, p string) (row, bool) {
	for _, r := range table {
		if matchesAny(r.packages, p) {
			return r, true
		}
	}
	return row{}, false
}

// checkImports holds a package against the table.
func checkImports(u *unit, table []row) (broken []string) {
	r, ok := rowOf(table, u.path)
	if !ok {
		return []string{u.path + ": has no row in the table of who may import whom"}
	}
	isTest := matchesAny(testPackages(), u.path)
	for _, f := range u.files {
		allowed := slices.Clone(r.allowed)
		if f.test || isTest {
			allowed = append(allowed, r.inTests...)
			allowed = append(allowed, testLibraries()...)
			allowed = append(allowed, testPackages()...)
			allowed = append(allowed, u.path) // an external test
		}
		for _, p := range f.imports() {
			own, inTree := strings.CutPrefix(p, module+"/")
			switch {
			case !f.test && !isTest && (p == "testing" || strings.HasPrefix(p, "testing/")):
				broken = append(broken, fmt.Sprintf("%s: %s imports %s outside a test", u.path, path.Base(f.name), p))
			case standard(p):
			case inTree && matchesAny(allowed, own):
			case !inTree && covers(allowed, p):
			default:
				broken = append(broken, fmt.Sprintf("%s: %s may not import %s", u.path, path.Base(f.name), p))
			}
		}
	}
	return broken
}

// checkPurity refuses I/O, clocks, goroutines and init in the pure packages.
func checkPurity(u *unit) (broken []string) {
	if !matchesAny(purePackages(), u.path) {
		return nil
	}
	for _, f := range u.files {
		if f.test {
			continue
		}
		for _, p := range f.imports() {
			if covers(impureImports(), p) {
				broken = append(broken, fmt.Sprintf("%s: %s imports %s, but the package is pure", u.path, path.Base(f.name), p))
			}
		}
		names := importNames(f)
		ast.Inspect(f.tree, func(n ast.Node) bool {
			if what := impurity(n, names); what != "" {
				broken = append(broken, fmt.Sprintf("%s: %s uses %s, but the package is pure", u.path, u.at(n), what))
			}
			return true
		})
	}
	return broken
}

// importNames maps the name that a file uses for an import to its path.
func importNames(f source) map[string]string {
	names := map[string]string{}
	for i, p := range f.imports() {
		name := path.Base(p)
		if strings.HasPrefix(p, "math/rand") {
			name = "rand"
		}
		if n := f.tree.Imports[i].Name; n != nil {
			name = n.Name
		}
		names[name] = p
	}
	return names
}

func impurity(n ast.Node, names map[string]string) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "a go statement"
	case *ast.FuncDecl:
		if n.Recv == nil && n.Name.Name == "init" {
			return "init"
		}
	case *ast.ImportSpec:
		if n.Name != nil && n.Name.Name == "." {
			return "a dot import"
		}
	case *ast.SelectorExpr:
		id, ok := n.X.(*ast.Ident)
		if !ok {
			return ""
		}
		from := names[id.Name]
		if slices.Contains(impureCalls()[from], n.Sel.Name) {
			return from + "." + n.Sel.Name
		}
		if strings.HasPrefix(from, "math/rand") && !slices.Contains(seededRand(), n.Sel.Name) {
			return "the global source of " + from
		}
	}
	return ""
}

// checkComment wants a package comment that says something.
func checkComment(u *unit) []string {
	const words = 12
	name, longest := "", 0
	for _, f := range u.files {
		if f.test && len(u.files) > 1 && f.tree.Doc == nil {
			continue
		}
		name = strings.TrimSuffix(f.tree.Name.Name, "_test")
		text := f.tree.Doc.Text()
		if name != "main" && text != "" && !strings.HasPrefix(text, "Package "+name+" ") {
			return []string{fmt.Sprintf("%s: the package comment must begin with %q", u.path, "Package "+name+" ")}
		}
		longest = max(longest, len(strings.Fields(text)))
	}
	if longest < words {
		return []string{fmt.Sprintf("%s: package %s has no comment of at least %d words that says what it knows, gives and needs", u.path, name, words)}
	}
	return nil
}

// checkHabits refuses sleeping, skipping and assert in tests, and notes of
// unfinished work and init everywhere.
func checkHabits(u *unit) (broken []string) {
	habits := testHabits()
	if usesBubbles(u) {
		delete(habits, "time.Sleep") // there it costs no time
	}
	isTest := matchesAny(testPackages(), u.path)
	for _, f := range u.files {
		// Spelt in two parts so that this file does not find itself.
		for _, note := range []string{"TO" + "DO", "FIX" + "ME", "not " + "implemented"} {
			if strings.Contains(f.text, note) {
				broken = append(broken, fmt.Sprintf("%s: %s says %q", u.path, path.Base(f.name), note))
			}
		}
		if slices.Contains(f.imports(), testify+"/assert") {
			broken = append(broken, fmt.Sprintf("%s: %s imports assert: use require", u.path, path.Base(f.name)))
		}
		names := importNames(f)
		ast.Inspect(f.tree, func(n ast.Node) bool {
			if d, ok := n.(*ast.FuncDecl); ok && d.Recv == nil && d.Name.Name == "init" {
				broken = append(broken, fmt.Sprintf("%s: %s has an init function", u.path, u.at(n)))
			}
			call, ok := n.(*ast.CallExpr)
			if !ok || !f.test && !isTest {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			id, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := sel.Sel.Name
			if from := names[id.Name]; from != "" {
				name = from + "." + name
			}
			if why := habits[name]; why != "" {
				broken = append(broken, fmt.Sprintf("%s: %s calls %s: %s", u.path, u.at(n), name, why))
			}
			return true
		})
	}
	return broken
}

// usesBubbles reports whether a package's tests run on the fake clock of
// testing/synctest.
func usesBubbles(u *unit) bool {
	return slices.ContainsFunc(u.files, func(f source) bool { return slices.Contains(f.imports(), "testing/synctest") })
}

// checkPlaces refuses entries at the root and folder names that say nothing.
func checkPlaces(entries, folders []string) (broken []string) {
	for _, e := range entries {
		if !strings.HasPrefix(e, ".") && !slices.Contains(topLevel(), e) {
			broken = append(broken, e+": may not stand at the root of the tree")
		}
	}
	for _, f := range folders {
		if slices.Contains(vagueNames(), path.Base(f)) {
			broken = append(broken, f+": the name says nothing of what is inside")
		}
	}
	return broken
}

// checkState refuses package-level variables that could change while the
// program runs. What stays: error sentinels, embedded files, interface checks
// (var _ T = …), and unexported tables that get their value where they are
// declared and are nowhere written or shared by address. A package that exists
// for tests may share what one test binary starts once.
func checkState(u *unit) (broken []string) {
	if matchesAny(testPackages(), u.path) {
		return nil
	}
	vars := packageVars(u)
	for name, v := range vars {
		if why := mutable(name, v); why != "" {
			broken = append(broken, fmt.Sprintf("%s: %s: package-level variable %s %s", u.path, u.at(v.spec), name, why))
		}
	}
	for _, f := range u.files {
		if f.test {
			continue
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			for _, target := range written(n) {
				id := rootIdent(target)
				if id == nil {
					continue
				}
				if v, ok := vars[id.Name]; ok && v.names(id) {
					broken = append(broken, fmt.Sprintf("%s: %s: package-level variable %s is written", u.path, u.at(n), id.Name))
				}
			}
			return true
		})
	}
	slices.Sort(broken)
	return broken
}

// packageVar is one name of a package-level var declaration.
type packageVar struct {
	spec     *ast.ValueSpec
	value    ast.Expr // nil: declared without one
	embedded bool
}

// names reports whether an identifier means this variable and not a local one
// of the same name. The parser resolves the names of one file only; what it
// leaves unresolved is of the package.
func (v packageVar) names(id *ast.Ident) bool {
	return id.Obj == nil || id.Obj.Decl == v.spec //nolint:staticcheck // enough for one file, and needs no type checker
}

func packageVars(u *unit) map[string]packageVar {
	vars := map[string]packageVar{}
	for _, f := range u.files {
		if f.test {
			continue
		}
		for _, d := range f.tree.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.VAR {
				continue
			}
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				embedded := hasEmbed(decl.Doc) || hasEmbed(spec.Doc)
				for i, name := range spec.Names {
					v := packageVar{spec: spec, embedded: embedded}
					if len(spec.Values) == len(spec.Names) {
						v.value = spec.Values[i]
					} else if len(spec.Values) == 1 {
						v.value = spec.Values[0]
					}
					if name.Name != "_" {
						vars[name.Name] = v
					}
				}
			}
		}
	}
	return vars
}

func hasEmbed(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// mutable says why a package-level variable may change, or "".
func mutable(name string, v packageVar) string {
	if v.embedded {
		return ""
	}
	if v.value == nil {
		return "has no value: it is state"
	}
	if isSentinel(v.value) {
		return ""
	}
	if ast.IsExported(name) {
		return "is exported: any package could write it"
	}
	why := ""
	ast.Inspect(v.value, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				why = "is a pointer: it is state"
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "new" || id.Name == "make") {
				why = "is made empty: it is state"
			}
		case *ast.SelectorExpr:
			if id, ok := n.X.(*ast.Ident); ok && (id.Name == "sync" || id.Name == "atomic") {
				why = "is of " + id.Name + ": it is state"
			}
		}
		return true
	})
	return why
}

// isSentinel reports whether an expression makes an error to compare with.
func isSentinel(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && (id.Name == "errors" && sel.Sel.Name == "New" || id.Name == "fmt" && sel.Sel.Name == "Errorf")
}

// written are the expressions that a node assigns to or takes the address of.
func written(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			return []ast.Expr{n.X}
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear" || id.Name == "copy") && len(n.Args) > 0 {
			return n.Args[:1]
		}
	}
	return nil
}

// rootIdent is the variable that an assigned expression begins with.
func rootIdent(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}
