package web

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// axeScript is where make deps puts axe-core.
const axeScript = "../../../.tools/npm/node_modules/axe-core/axe.min.js"

// axeFindings runs axe-core on the page that ctx's tab shows and gives each
// rule broken with the elements that break it. The script goes in through the
// browser's debugger: the page's own policy would refuse it.
func axeFindings(ctx context.Context, t *testing.T) []string {
	t.Helper()
	script, err := os.ReadFile(filepath.FromSlash(axeScript))
	require.NoError(t, err, "make deps gets axe-core")
	findings, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](string(script)+`; axe.run(document, {resultTypes: ["violations"]}).then(r =>
		r.violations.map(v => v.id + ": " + v.help + "\n" + v.nodes.map(n => "  " + n.html).join("\n")))`,
		chromedp.EvalAwaitPromise))
	require.NoError(t, err)
	return findings
}
