package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// openConfig lets anybody in, and keeps nothing: no retained message, no session
// that outlives its connection, no file.
const openConfig = `persistence false
retain_available false
max_queued_messages 100000
max_inflight_messages 0
message_size_limit 65536
set_tcp_nodelay true
allow_anonymous true
listener 8883
log_dest stderr
log_type error
log_type warning
log_type notice
`

// StartMosquitto starts a broker on a free port of the loopback, with its
// configuration and log in dir, which must exist. The port of its one listener
// is written over; an empty configuration is of a broker that keeps nothing and
// lets anybody in. It returns the broker and its address.
func StartMosquitto(ctx context.Context, dir, config string) (*Program, string, error) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // Debian's, which a user's PATH leaves out
		if _, err := os.Stat(path); err != nil {
			return nil, "", errors.New("mosquitto is missing: install it (Debian: apt-get install mosquitto)")
		}
	}
	address, err := FreeAddress("127.0.0.1")
	if err != nil {
		return nil, "", err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	if config == "" {
		config = openConfig
	}
	listener := regexp.MustCompile(`(?m)^listener .*$`)
	if len(listener.FindAllString(config, -1)) != 1 {
		return nil, "", errors.New("configure the broker: want one listener")
	}
	config = listener.ReplaceAllString(config, "listener "+port+" "+host)
	if os.Geteuid() == 0 {
		config = "user root\n" + config // else it could not read what we write
	}
	file := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, "", fmt.Errorf("configure the broker: %w", err)
	}
	p := &Program{Name: "mosquitto", Path: path, Args: []string{"-c", file}, Log: filepath.Join(dir, "mosquitto.log")}
	if err := p.Start(); err != nil {
		return nil, "", err
	}
	if err := waitListening(ctx, p, address); err != nil {
		p.Stop()
		return nil, "", err
	}
	return p, address, nil
}

func waitListening(ctx context.Context, p *Program, address string) error {
	ctx, cancel := context.WithTimeout(ctx, serverReady)
	defer cancel()
	return Until(ctx, 50*time.Millisecond, p.Name+" does not answer", func() (bool, error) {
		if err := p.Alone(); err != nil {
			return false, err
		}
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return false, nil
		}
		return true, c.Close()
	})
}
