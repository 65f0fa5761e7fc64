package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"time"

	"batteryswap/firmware-agent/agent"
	"batteryswap/firmware-agent/internal/config"
)

// runAgent runs the agent until the context ends, or until it cannot go on.
func runAgent(s shell) error {
	version, built := build()
	queue := newLogQueue(s.errout, s.logger(s.errout))
	defer queue.flush()
	a, err := agent.New(agent.Options{ConfigFile: s.config, Log: s.logger(queue), Software: version, Built: built})
	if err != nil {
		return wrongConfig(err)
	}
	if err := a.Start(); err != nil {
		return err
	}
	select {
	case <-s.ctx.Done():
		return a.Stop()
	case <-a.Done():
		return errors.Join(a.Err(), a.Stop())
	}
}

// wrongConfig makes a file that cannot be read a mistake of the configuration.
func wrongConfig(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return usageError{err}
	}
	return err
}

// checkConfig checks the file, and the files that it names.
func checkConfig(s shell) error {
	c, err := config.Load(s.config)
	if err == nil {
		_, err = c.ReadFiles()
	}
	if err != nil {
		return wrongConfig(err)
	}
	fmt.Fprintf(s.out, "%s: no mistakes\n", s.config)
	for _, better := range c.Advice() {
		fmt.Fprintln(s.out, "better:", better)
	}
	return nil
}

func (s shell) logger(to io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			a.Value = slog.StringValue(a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))
		}
		return a
	}}
	if s.logFormat == "text" {
		return slog.New(slog.NewTextHandler(to, o))
	}
	return slog.New(slog.NewJSONHandler(to, o))
}

// build tells what was built, and when.
func build() (version string, at time.Time) {
	version = "development"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, at
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			version = s.Value[:min(len(s.Value), 12)]
		case "vcs.time":
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				at = t
			}
		}
	}
	return version, at
}
