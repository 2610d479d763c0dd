package component

import (
	_ "unsafe" // For go:linkname.

	"k8s.io/component-base/version"
)

// Version is the version of Kubernetes in go.mod.
const Version = "v1.34.3"

// Upstream's build writes the version into these variables with the linker, which needs flags that a plain `go build`
// does not have. Without a version, clients take the server for v0.0.0, and Helm refuses to install charts.

//go:linkname gitVersion k8s.io/component-base/version.gitVersion
var gitVersion string

//go:linkname gitMajor k8s.io/component-base/version.gitMajor
var gitMajor string

//go:linkname gitMinor k8s.io/component-base/version.gitMinor
var gitMinor string

//go:linkname clientVersion k8s.io/client-go/pkg/version.gitVersion
var clientVersion string

func init() {
	gitVersion, gitMajor, gitMinor, clientVersion = Version, "1", "34", Version
	// The package has already copied the old value for everyone who asks.
	if err := version.SetDynamicVersion(Version); err != nil {
		panic(err)
	}
}
