package demo

import (
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"batteryswap/simulator/console"
	"batteryswap/simulator/world"
)

//go:embed page.html
var pageFile embed.FS

// cabinetPage shows one simulated cabinet, with a button for whatever hands can
// do: what a person does at the real thing.
type cabinetPage struct {
	console *console.Console
	world   *world.World
	now     func() time.Duration
	yours   string
	message func() string // the last code that was sent to the person's phone
	page    *template.Template
}

func newPage(c *console.Console, w *world.World, now func() time.Duration, yours string) (*cabinetPage, error) {
	t, err := template.ParseFS(pageFile, "page.html")
	if err != nil {
		return nil, fmt.Errorf("the cabinets' page: %w", err)
	}
	return &cabinetPage{console: c, world: w, now: now, yours: yours, message: func() string { return "" }, page: t}, nil
}

// maxForm bounds what a form may send, in bytes.
const maxForm = 4 << 10

func (p *cabinetPage) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "/cabinets/"+p.yours, http.StatusSeeOther)
	})
	mux.HandleFunc("GET /cabinets/{id}", p.show)
	mux.HandleFunc("POST /cabinets/{id}", p.act)
	return http.NewCrossOriginProtection().Handler(mux)
}

type pageView struct {
	Cabinet  string
	Cabinets []string
	Hands    []string
	Slots    []world.SlotFacts
	Said     string
	Message  string
	// Refresh is false in a page that stands still, for slow hands and tests.
	Refresh bool
}

func (p *cabinetPage) show(rw http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	cabinets := p.world.Cabinets()
	if !slices.Contains(cabinets, id) {
		http.Error(rw, "there is no cabinet "+id, http.StatusNotFound)
		return
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.Header().Set("Cache-Control", "no-store")
	err := p.page.Execute(rw, pageView{
		Cabinet: id, Cabinets: cabinets, Hands: p.world.Hands(p.console.Person),
		Slots: p.world.Facts(p.now(), id), Said: r.URL.Query().Get("said"), Message: p.message(), Refresh: !r.URL.Query().Has("still"),
	})
	if err != nil {
		fmt.Fprintln(rw, err)
	}
}

// act does one thing and shows the cabinet again.
func (p *cabinetPage) act(rw http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(rw, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(rw, "want a form: "+err.Error(), http.StatusBadRequest)
		return
	}
	words := []string{r.PostForm.Get("act"), r.PostForm.Get("slot"), r.PostForm.Get("battery_serial")}
	said, err := p.console.Do("cabinet " + r.PathValue("id") + " " + strings.Join(words, " "))
	if err != nil {
		said = "no: " + err.Error()
	}
	back := url.Values{}
	if said != "" {
		back.Set("said", said)
	}
	if r.PostForm.Has("still") {
		back.Set("still", "")
	}
	http.Redirect(rw, r, "/cabinets/"+r.PathValue("id")+"?"+back.Encode(), http.StatusSeeOther)
}
