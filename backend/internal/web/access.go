package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"batteryswap/backend/internal/staff"
)

// access says who may use a route. The zero value is nobody: a Web with such a
// route does not start.
type access struct {
	open  bool
	rider bool
	roles []staff.Role
	// fresh asks for a code of the last minutes: what cannot be undone, or gives
	// a person away.
	fresh bool
}

func anybody() access { return access{open: true} }

// riders: the handler asks for the session itself, since it has a page for who
// has none, and sees that an object is the rider's own.
func riders() access { return access{rider: true} }

func only(roles ...staff.Role) access { return access{roles: roles} }

func (a access) freshly() access {
	a.fresh = true
	return a
}

// Route is a route and who may use it.
type Route struct {
	Method, Path string
	Open, Rider  bool
	Roles        []staff.Role
	Fresh        bool
}

// Routes are all routes.
func (w *Web) Routes() []Route { return slices.Clone(w.routes) }

func (w *Web) note(method, path string, a access) {
	w.routes = append(w.routes, Route{Method: method, Path: path, Open: a.open, Rider: a.rider, Roles: a.roles, Fresh: a.fresh})
}

// checkRoutes refuses a route that nobody said who may use.
func (w *Web) checkRoutes() error {
	for _, r := range w.routes {
		if !r.Open && !r.Rider && len(r.Roles) == 0 {
			return fmt.Errorf("web: route %s %s has no role", r.Method, r.Path)
		}
	}
	return nil
}

// handle puts a page on the mux.
func (w *Web) handle(mux *http.ServeMux, pattern string, a access, h http.HandlerFunc) {
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		method, path = "", pattern
	}
	w.note(method, path, a)
	if !a.open && !a.rider {
		h = w.guard(a, h)
	}
	mux.HandleFunc(pattern, h)
}

func roleNames(roles []staff.Role) string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}
