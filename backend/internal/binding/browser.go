package binding

import "strings"

// Browser is what a device is called by its owner: which app, on which system. Of
// what a browser says of itself nothing else is kept.
type Browser struct {
	App    string // of Apps
	System string // of systems, "" where it is none of them
}

// Apps are the apps that are told apart, by what their browsers say of themselves.
// The in-app browsers stand first: they say that they are Chrome and Safari, too.
func Apps() []string {
	all := make([]string, 0, len(apps)+1)
	for _, a := range apps {
		all = append(all, a.name)
	}
	return append(all, OtherApp)
}

// OtherApp is any other program.
const OtherApp = "other"

var apps = [...]struct{ mark, name string }{
	{"micromessenger", "wechat"}, {"alipay", "alipay"}, {"meituan", "meituan"}, {"eleme", "eleme"}, {"dingtalk", "dingtalk"},
	{"qq/", "qq"}, {"ucbrowser", "uc"}, {"huaweibrowser", "huawei"}, {"miuibrowser", "xiaomi"}, {"edg", "edge"},
	{"firefox", "firefox"}, {"chrome", "chrome"}, {"safari", "safari"},
}

var systems = [...]struct{ mark, name string }{
	{"openharmony", "HarmonyOS"}, {"harmonyos", "HarmonyOS"}, {"android", "Android"}, {"iphone", "iPhone"}, {"ipad", "iPad"},
	{"windows", "Windows"}, {"mac os", "macOS"}, {"linux", "Linux"},
}

// maxUserAgent bounds what is looked at, in bytes.
const maxUserAgent = 1024

// BrowserOf reads a User-Agent header.
func BrowserOf(userAgent string) Browser {
	said := strings.ToLower(userAgent[:min(len(userAgent), maxUserAgent)])
	b := Browser{App: OtherApp}
	for _, a := range apps {
		if strings.Contains(said, a.mark) {
			b.App = a.name
			break
		}
	}
	for _, s := range systems {
		if strings.Contains(said, s.mark) {
			b.System = s.name
			break
		}
	}
	return b
}
