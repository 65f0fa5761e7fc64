package web

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"

	"batteryswap/backend/internal/staff"
	"batteryswap/protocol"
)

func (w *Web) pageEnrol(rw http.ResponseWriter, r *http.Request) {
	w.show(rw, r, http.StatusOK, "enrol", nil)
}

// enrolment reads a form; what is wrong with it the books say.
func enrolment(r *http.Request, id protocol.CabinetID, replace bool) (staff.Enrolment, error) {
	f := r.PostForm
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(f.Get("device_key")))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return staff.Enrolment{}, staff.Mistakef("device_key: want %d bytes in base64, as 'firmware-agent keygen' prints them", ed25519.PublicKeySize)
	}
	slots, err := strconv.Atoi(strings.TrimSpace(f.Get("slots")))
	if err != nil || slots < 2 {
		return staff.Enrolment{}, staff.Mistakef("slots: want 2 to %d", protocol.MaxSlots)
	}
	return staff.Enrolment{
		CabinetID: id, DeviceKey: key, Slots: slots, Replace: replace,
		Station: strings.TrimSpace(f.Get("station")), Street: strings.TrimSpace(f.Get("street")),
	}, nil
}

func (w *Web) postEnrol(rw http.ResponseWriter, r *http.Request) {
	id := protocol.CabinetID(strings.TrimSpace(r.PostForm.Get("cabinet_id")))
	e, err := enrolment(r, id, false)
	if err == nil {
		err = w.o.Staff.EnrolCabinet(r.Context(), e)
	}
	w.after(rw, r, err, "/staff/cabinets/"+string(id), "enrolled")
}

func (w *Web) postReplace(rw http.ResponseWriter, r *http.Request) {
	e, err := enrolment(r, cabinetOf(r), true)
	if err == nil {
		err = w.o.Staff.EnrolCabinet(r.Context(), e)
	}
	w.after(rw, r, err, cabinetPath(r), "replaced")
}

func (w *Web) postMove(rw http.ResponseWriter, r *http.Request) {
	f := r.PostForm
	err := w.o.Staff.MoveCabinet(r.Context(), cabinetOf(r), strings.TrimSpace(f.Get("station")), strings.TrimSpace(f.Get("street")), f.Get("reason"))
	w.after(rw, r, err, cabinetPath(r), "cabinet_moved")
}

func (w *Web) postEpoch(rw http.ResponseWriter, r *http.Request) {
	w.after(rw, r, w.o.Staff.AcceptEpoch(r.Context(), cabinetOf(r)), cabinetPath(r), "epoch")
}

func (w *Web) postRetire(rw http.ResponseWriter, r *http.Request) {
	w.after(rw, r, w.o.Staff.RetireCabinet(r.Context(), cabinetOf(r)), "/staff/cabinets", "retired")
}

type stickerPage struct {
	CabinetID        protocol.CabinetID
	Station, Street  string
	Hotline, Address string
	QR               template.HTML
}

// pageSticker is what is printed and put on a cabinet. The code alone gains
// nothing to who copies it: a swap is deposit-first.
func (w *Web) pageSticker(rw http.ResponseWriter, r *http.Request) {
	c, err := w.o.Books.Cabinet(r.Context(), cabinetOf(r))
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	hotline := c.Hotline
	if hotline == "" {
		hotline = w.o.Hotline
	}
	u := *w.o.PublicURL
	u.Path = "/c/" + string(c.CabinetID)
	code, err := qrSVG(u.String())
	answer(w, rw, r, "sticker", stickerPage{
		CabinetID: c.CabinetID, Station: c.Station, Street: c.Street, Hotline: hotline, Address: u.Host + u.Path, QR: code,
	}, err)
}

// qrSVG draws a QR code with the quiet zone that scanners want.
func qrSVG(text string) (template.HTML, error) {
	code, err := qr.Encode(text, qr.Q, qr.Auto)
	if err != nil {
		return "", err
	}
	const quiet = 4
	n := code.Bounds().Dx()
	var b bytes.Buffer
	size := strconv.Itoa(n + 2*quiet)
	b.WriteString(`<svg class="qr" role="img" aria-label="QR" viewBox="0 0 ` + size + ` ` + size + `" shape-rendering="crispEdges"><rect width="100%" height="100%" fill="#fff"/><path d="`)
	for y := range n {
		for x := range n {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				b.WriteString("M" + strconv.Itoa(x+quiet) + " " + strconv.Itoa(y+quiet) + "h1v1h-1z")
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return template.HTML(b.String()), nil // numbers only
}

type accountsPage struct {
	Accounts []staff.Account
	Tokens   []staff.Token
	Roles    []staff.Role
	// What was made is shown once.
	Login, Password, Secret, URL, Token string
	QR                                  template.HTML
	Codes                               []string
}

func (w *Web) pageAccounts(rw http.ResponseWriter, r *http.Request) {
	w.accountsWith(rw, r, accountsPage{})
}

func (w *Web) accountsWith(rw http.ResponseWriter, r *http.Request, p accountsPage) {
	var err error
	p.Roles = staff.Roles()
	if p.Accounts, err = w.o.Staff.Accounts(r.Context()); err == nil {
		p.Tokens, err = w.o.Staff.Tokens(r.Context())
	}
	if err == nil && p.Secret != "" {
		p.URL = staff.SecretURL(p.Login, p.Secret)
		p.QR, err = qrSVG(p.URL)
	}
	answer(w, rw, r, "accounts", p, err)
}

// made are new credentials, with the page that tells them once.
func (w *Web) made(login string) (staff.Credentials, accountsPage, error) {
	p := accountsPage{Login: login, Password: rand.Text()[:20], Secret: staff.NewSecret()}
	c := staff.Credentials{Secret: p.Secret}
	w.hashing <- struct{}{}
	defer func() { <-w.hashing }()
	var err error
	c.PasswordHash, err = staff.HashPassword(p.Password)
	for _, code := range staff.NewRecoveryCodes() {
		c.Recovery = append(c.Recovery, staff.HashRecovery(code))
		p.Codes = append(p.Codes, staff.ShowRecovery(code))
	}
	return c, p, err
}

func (w *Web) postAccount(rw http.ResponseWriter, r *http.Request) {
	login := strings.TrimSpace(r.PostForm.Get("login"))
	roles, err := staff.ParseRoles(r.PostForm["role"])
	var c staff.Credentials
	var p accountsPage
	if err == nil {
		c, p, err = w.made(login)
	}
	if err == nil {
		err = w.o.Staff.AddAccount(r.Context(), staff.NewAccount{Login: login, Name: strings.TrimSpace(r.PostForm.Get("name")), Roles: roles, Credentials: c})
	}
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	w.accountsWith(rw, r, p)
}

func (w *Web) postAccountAct(rw http.ResponseWriter, r *http.Request) {
	login, what := r.PathValue("login"), r.PostForm.Get("act")
	var err error
	switch what {
	case "sign_out":
		err = w.o.Staff.EndSessions(r.Context(), login)
	case "disable":
		err = w.o.Staff.SetAccount(r.Context(), login, nil)
	case "roles":
		var roles []staff.Role
		if roles, err = staff.ParseRoles(r.PostForm["role"]); err == nil {
			err = w.o.Staff.SetAccount(r.Context(), login, roles)
		}
	case "reset":
		c, p, err := w.made(login)
		if err == nil {
			err = w.o.Staff.ResetAccount(r.Context(), login, c)
		}
		if err != nil {
			w.staffFailed(rw, r, err)
			return
		}
		w.accountsWith(rw, r, p)
		return
	default:
		err = staff.Mistakef("act %.20q: want sign_out, disable, roles or reset", what)
	}
	w.after(rw, r, err, "/staff/accounts", "account")
}

// tokenLife is for how long a token of the console holds.
const tokenLife = 90 * 24 * time.Hour

func (w *Web) postToken(rw http.ResponseWriter, r *http.Request) {
	roles, err := staff.ParseRoles(r.PostForm["role"])
	token := staff.NewToken()
	if err == nil {
		err = w.o.Staff.AddToken(r.Context(), strings.TrimSpace(r.PostForm.Get("name")), roles, staff.HashToken(token), time.Now().Add(tokenLife))
	}
	if err != nil {
		w.staffFailed(rw, r, err)
		return
	}
	w.accountsWith(rw, r, accountsPage{Token: token})
}

func (w *Web) postRevoke(rw http.ResponseWriter, r *http.Request) {
	w.after(rw, r, w.o.Staff.RevokeToken(r.Context(), r.PathValue("name")), "/staff/accounts", "token")
}

func (w *Web) pageAuditLog(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	below, _ := strconv.ParseInt(q.Get("below"), 10, 64) // not a number: from the newest
	p := struct {
		Lines []staff.Line
		About string
		Next  int64
	}{About: strings.TrimSpace(q.Get("about"))}
	var err error
	p.Lines, err = w.o.Staff.AuditLines(r.Context(), p.About, below, 100)
	if len(p.Lines) == 100 {
		p.Next = p.Lines[99].No
	}
	answer(w, rw, r, "audit-log", p, err)
}
