package demo

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"batteryswap/simulator/authenticator"
)

// member is one of the demo's staff: an account with one role.
type member struct{ role, login, password, secret string }

// roles are the roles of the backend's staff.
var roles = [...]string{"operator", "union", "maintenance", "admin"}

// addStaff makes an account for each role.
func (s *stage) addStaff(ctx context.Context) error {
	if s.o.Exit {
		return nil // nobody is there to sign in
	}
	for _, role := range roles {
		login := role
		if s.tag != "" { // a database that is kept has those of the demos before
			login += "-" + s.tag
		}
		printed, err := s.tools.Run(ctx, "", "backend", "staff", "add", login, "--name", "Demo "+role, "--role", role)
		if err != nil {
			return err
		}
		m, err := readMember(printed)
		if err != nil {
			return err
		}
		m.role, m.login = role, login
		s.staff = append(s.staff, m)
	}
	return nil
}

// readMember reads what `backend staff add` printed.
func readMember(printed string) (member, error) {
	var m member
	for line := range strings.Lines(printed) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "  ")
		switch value = strings.TrimSpace(value); name {
		case "password":
			m.password = value
		case "secret":
			m.secret = value
		}
	}
	if m.password == "" || m.secret == "" {
		return m, fmt.Errorf("backend staff add: no password or secret in what it printed")
	}
	return m, nil
}

// printStaff says how to sign in to the console.
func (s *stage) printStaff(out io.Writer) {
	fmt.Fprintf(out, "staff          %s/staff/   (the demo's only; the code: type code ROLE here, or give the secret to an app)\n", s.public)
	for _, m := range s.staff {
		fmt.Fprintf(out, "  %-12s %-18s  password %s  secret %s\n", m.role, m.login, m.password, m.secret)
	}
}

// tellCode answers the typed line "code ROLE".
func (s *stage) tellCode(words []string, at time.Time) (string, error) {
	for _, m := range s.staff {
		if len(words) != 2 || words[1] != m.role && words[1] != m.login {
			continue
		}
		code, err := authenticator.Code(m.secret, at)
		if err != nil {
			return "", err
		}
		left := authenticator.Period - time.Duration(at.UnixNano())%authenticator.Period
		return fmt.Sprintf("%s  (of %s, for %d s more; a code works once)", code, m.login, int(left.Seconds())), nil
	}
	return "", fmt.Errorf("whose code? code ROLE, with one of %s", strings.Join(roles[:], ", "))
}
