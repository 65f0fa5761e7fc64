package binding

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNewCode(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		c := NewCode(CodeDigits)
		require.Regexp(t, `^[0-9]{6}$`, c)
		seen[c] = true
	}
	require.Greater(t, len(seen), 190, "they are drawn from all there are")
	require.Regexp(t, `^[0-9]{8}$`, NewCode(StaffDigits))
}

func TestDigits(t *testing.T) {
	for typed, want := range map[string]string{"123456": "123456", " 1234 5678 ": "12345678", "１２-３４": "1234", "x": "", "": ""} {
		require.Equal(t, want, Proof{Code: typed}.Digits(), typed)
	}
}

func TestBrowserOf(t *testing.T) {
	for said, want := range map[string]Browser{
		"Mozilla/5.0 (Linux; Android 13; V2166A) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/116.0 Mobile Safari/537.36 XWEB/1160117 MMWEBSDK/2023 MicroMessenger/8.0.42": {"wechat", "Android"},
		"Mozilla/5.0 (iPhone; CPU iPhone OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 AlipayClient/10.5.20":                                            {"alipay", "iPhone"},
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1":                                       {"safari", "iPhone"},
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36 Edg/120.0":                                                         {"edge", "Windows"},
		"Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/114.0 Safari/537.36 ArkWeb/4.1.6.1 Mobile HuaweiBrowser/5.0.4":                              {"huawei", "HarmonyOS"},
		"curl/8.0": {OtherApp, ""},
		"":         {OtherApp, ""},
		strings.Repeat("x", 2000) + "iphone safari": {OtherApp, ""},
	} {
		require.Equal(t, want, BrowserOf(said), said)
	}
	require.Contains(t, Apps(), OtherApp)
}
