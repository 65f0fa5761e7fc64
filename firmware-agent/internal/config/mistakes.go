package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Mistake is one thing that is wrong with a configuration.
type Mistake struct {
	Line  int    // 0: not at one line
	Field string // dotted, "" when it is not about one
	Text  string
}

// String is "line 3: serial.baud: want …".
func (m Mistake) String() string {
	s := m.Text
	if m.Field != "" {
		s = m.Field + ": " + s
	}
	if m.Line > 0 {
		s = fmt.Sprintf("line %d: %s", m.Line, s)
	}
	return s
}

// Mistakes are all that are wrong, in the order of the file.
type Mistakes []Mistake

// Error gives one mistake on each line.
func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

func (ms Mistakes) sorted() Mistakes {
	slices.SortStableFunc(ms, func(a, b Mistake) int { return cmp.Compare(a.Line, b.Line) })
	return ms
}

func (ms Mistakes) has(field string) bool {
	return slices.ContainsFunc(ms, func(m Mistake) bool { return m.Field == field })
}

// places says at which line a field stands.
type places map[string]int

func placesOf(root *yaml.Node) places {
	p := places{}
	var visit func(prefix string, n *yaml.Node)
	visit = func(prefix string, n *yaml.Node) {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			field := prefix + n.Content[i].Value
			p[field] = n.Content[i].Line
			visit(field+".", n.Content[i+1])
			for j, item := range n.Content[i+1].Content {
				if item.Kind == yaml.MappingNode {
					at := fmt.Sprintf("%s[%d]", field, j)
					p[at] = item.Line
					visit(at+".", item)
				}
			}
		}
	}
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		visit("", root.Content[0])
	}
	return p
}

// of is the line of a field, or of the group that it is missing from.
func (p places) of(field string) int {
	if line, ok := p[field]; ok {
		return line
	}
	group, _, _ := strings.Cut(field, ".")
	return p[group]
}

// firstsOnly removes the second and later values of fields given twice.
func firstsOnly(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		for _, child := range n.Content {
			firstsOnly(child)
		}
		return
	}
	var kept []*yaml.Node
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i].Value; !seen[key] {
			seen[key] = true
			kept = append(kept, n.Content[i], n.Content[i+1])
			firstsOnly(n.Content[i+1])
		}
	}
	n.Content = kept
}

// at is the field that stands at a line: the innermost one.
func (p places) at(line int) string {
	field := ""
	for f, l := range p {
		if l == line && (len(f) > len(field) || len(f) == len(field) && f < field) {
			field = f
		}
	}
	return field
}

var (
	atLine       = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	unknownField = regexp.MustCompile(`^field (.*) not found in type`)
	wrongType    = regexp.MustCompile("^cannot unmarshal !!(\\w+) (?:`(.*)` )?into (\\S+)$")
	twice        = regexp.MustCompile(`^mapping key "(.*)" already defined at line (\d+)$`)
)

func splitLine(text string) (int, string) {
	m := atLine.FindStringSubmatch(text)
	if m == nil {
		return 0, strings.TrimPrefix(text, "yaml: ")
	}
	line, _ := strconv.Atoi(m[1])
	return line, m[2]
}

func syntaxMistake(err error) Mistake {
	line, text := splitLine(err.Error())
	return Mistake{Line: line, Text: "not YAML: " + text}
}

// typeMistakes words what the YAML library found in our terms.
func typeMistakes(err error, p places) Mistakes {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return Mistakes{syntaxMistake(err)}
	}
	var found Mistakes
	for _, e := range te.Errors {
		line, text := splitLine(e)
		m := Mistake{Line: line, Field: p.at(line), Text: text}
		if f := unknownField.FindStringSubmatch(text); f != nil {
			if m.Field != f[1] && !strings.HasSuffix(m.Field, "."+f[1]) {
				m.Field = f[1]
			}
			m.Text = "there is no such field"
		} else if f := twice.FindStringSubmatch(text); f != nil {
			m.Text = "given twice, first at line " + f[2]
		} else if f := wrongType.FindStringSubmatch(text); f != nil {
			m.Text = fmt.Sprintf("want %s, not %s", kindWord(f[3]), valueWord(f[1], f[2]))
		}
		found = append(found, m)
	}
	return found
}

func kindWord(goType string) string {
	switch goType {
	case "int":
		return "a whole number"
	case "float64":
		return "a number"
	case "[]string", "[]config.Battery":
		return "a list"
	case "string", "protocol.CabinetID":
		return "a text"
	}
	return "a group of fields"
}

func valueWord(tag, value string) string {
	switch {
	case value != "":
		return fmt.Sprintf("%q", value)
	case tag == "seq":
		return "a list"
	case tag == "map":
		return "a group of fields"
	}
	return "nothing"
}
