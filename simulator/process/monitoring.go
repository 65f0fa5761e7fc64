package process

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// StartPrometheus starts the machine's Prometheus on an address, HOST:PORT, with
// a configuration, which may name files beside it. Its data and log are in dir.
func StartPrometheus(ctx context.Context, dir, config, listen string) (*Program, error) {
	return startServer(ctx, dir, "prometheus", "prometheus", listen,
		"--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "prometheus-data"))
}

// StartAlertmanager starts the machine's Alertmanager, alone, as StartPrometheus
// does.
func StartAlertmanager(ctx context.Context, dir, config, listen string) (*Program, error) {
	return startServer(ctx, dir, "alertmanager", "prometheus-alertmanager", listen,
		"--config.file="+config, "--storage.path="+filepath.Join(dir, "alertmanager-data"), "--cluster.listen-address=")
}

// startServer starts a server of Prometheus' family, by the name that it has
// upstream or by Debian's name for it, and waits until it is ready.
func startServer(ctx context.Context, dir, name, debian, listen string, args ...string) (*Program, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath(debian)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is missing: install it (Debian: apt-get install %s)", name, debian)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Program{
		Name: name, Path: path, Log: filepath.Join(dir, name+".log"),
		Args: append(args, "--web.listen-address="+listen, "--log.level=warn"),
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	if err := waitReady(ctx, p, "http://"+listen+"/-/ready"); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// waitReady waits until a page answers with 200.
func waitReady(ctx context.Context, p *Program, page string) error {
	ctx, cancel := context.WithTimeout(ctx, serverReady)
	defer cancel()
	client := http.Client{Timeout: time.Second}
	return Until(ctx, 50*time.Millisecond, p.Name+" is not ready", func() (bool, error) {
		if err := p.Alone(); err != nil {
			return false, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
		if err != nil {
			return false, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return false, nil
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	})
}
