package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"batteryswap/simulator/process"
)

// watchers are the Prometheus and the Alertmanager beside the demo.
type watchers struct {
	prometheus, alertmanager               *process.Program
	prometheusAddress, alertmanagerAddress string
}

// target is one entry of a file of Prometheus' file-based discovery.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// startWatchers starts Alertmanager and Prometheus with copies of the shipped
// files, and tells Prometheus of all that runs.
func (s *stage) startWatchers(ctx context.Context) error {
	if s.o.Monitoring == "" {
		return nil
	}
	var err error
	w, dir := &s.watchers, filepath.Join(s.dir, "monitoring")
	for _, address := range []*string{&w.prometheusAddress, &w.alertmanagerAddress} {
		if *address, err = process.FreeAddress("127.0.0.1"); err != nil {
			return err
		}
	}
	if err := s.copyMonitoring(dir); err != nil {
		return err
	}
	if err := s.writeTargets(filepath.Join(dir, "prometheus", "targets")); err != nil {
		return err
	}
	config := filepath.Join(dir, "alertmanager", "alertmanager.yml")
	if w.alertmanager, err = process.StartAlertmanager(ctx, dir, config, w.alertmanagerAddress); err != nil {
		return err
	}
	s.onClose(func() error { w.alertmanager.Stop(); return nil })
	config = filepath.Join(dir, "prometheus", "prometheus.yml")
	if w.prometheus, err = process.StartPrometheus(ctx, dir, config, w.prometheusAddress); err != nil {
		return err
	}
	s.onClose(func() error { w.prometheus.Stop(); return nil })
	return nil
}

// copyMonitoring copies the shipped files into the demo's folder, and says in
// them where console and runbooks of this demo are.
func (s *stage) copyMonitoring(dir string) error {
	for _, name := range []string{"prometheus", "alertmanager"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(s.o.Monitoring, name))); err != nil {
			return fmt.Errorf("copy the files of monitoring: %w", err)
		}
	}
	runbooks, err := filepath.Abs(filepath.Join(s.o.Monitoring, "runbooks"))
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "prometheus", "prometheus.yml")
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for label, value := range map[string]string{"console": s.public, "runbooks": runbooks} {
		line := regexp.MustCompile(`(?m)^( +` + label + `: ).*$`)
		if !line.Match(b) {
			return fmt.Errorf("%s has no label %s", file, label)
		}
		b = line.ReplaceAll(b, []byte("${1}"+value))
	}
	return os.WriteFile(file, b, 0o600)
}

// writeTargets tells Prometheus where everything is. An agent does not say whose
// it is: that is the label of its target.
func (s *stage) writeTargets(dir string) error {
	var backends, agents []target
	for _, r := range s.replicas {
		backends = append(backends, target{Targets: []string{r.metrics}})
	}
	for _, c := range s.cabinets {
		agents = append(agents, target{Targets: []string{c.metrics}, Labels: map[string]string{"cabinet": c.id}})
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, all := range map[string][]target{
		"backend": backends, "agent": agents,
		"alertmanager": {{Targets: []string{s.watchers.alertmanagerAddress}}},
		"prometheus":   {{Targets: []string{s.watchers.prometheusAddress}}},
	} {
		b, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".json"), b, 0o600); err != nil {
			return fmt.Errorf("tell Prometheus of its targets: %w", err)
		}
	}
	return nil
}

// printWatchers says where Prometheus and Alertmanager can be seen.
func (s *stage) printWatchers(out io.Writer) {
	if s.watchers.prometheus == nil {
		return
	}
	fmt.Fprintf(out, "Prometheus     http://%s/targets, http://%[1]s/alerts\n", s.watchers.prometheusAddress)
	fmt.Fprintf(out, "Alertmanager   http://%s/\n", s.watchers.alertmanagerAddress)
}
