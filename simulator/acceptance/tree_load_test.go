package acceptance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// source is one Go file of the tree.
type source struct {
	name string
	text string
	test bool
	tree *ast.File
}

// unit is one package with all its files, those of other systems too.
type unit struct {
	path  string // below the module
	files []source
	fset  *token.FileSet
}

// add parses one file into the unit.
func (u *unit) add(name, text string) error {
	tree, err := parser.ParseFile(u.fset, name, text, parser.ParseComments)
	if err != nil {
		return fmt.Errorf("parse %s: %w", name, err)
	}
	u.files = append(u.files, source{name, text, strings.HasSuffix(name, "_test.go"), tree})
	return nil
}

// at is where a node stands, as file:line.
func (u *unit) at(n ast.Node) string {
	p := u.fset.Position(n.Pos())
	return filepath.Base(p.Filename) + ":" + strconv.Itoa(p.Line)
}

// imports are the paths that a file imports, those of this tree below the module.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.tree.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has refused it already
		}
		paths = append(paths, p)
	}
	return paths
}

// moduleRoot is the folder that holds go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod in this folder or above")
		}
		dir = up
	}
}

// loadTree reads every package that the go command finds below root.
func loadTree(root string) ([]*unit, error) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	var units []*unit
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var found struct{ ImportPath, Dir string }
		if err := dec.Decode(&found); errors.Is(err, io.EOF) {
			return units, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		u := &unit{path: strings.TrimPrefix(found.ImportPath, module+"/"), fset: token.NewFileSet()}
		names, err := filepath.Glob(filepath.Join(found.Dir, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			if err := u.add(name, string(text)); err != nil {
				return nil, err
			}
		}
		units = append(units, u)
	}
}

// listFolders is every folder below root but hidden ones and testdata.
func listFolders(root string) ([]string, error) {
	var folders []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == root {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" {
			return filepath.SkipDir
		}
		rel, err := filepath.Rel(root, path)
		folders = append(folders, filepath.ToSlash(rel))
		return err
	})
	return folders, err
}
