package main

import (
	"os"

	"valerix.io/cluster/internal/component"
)

func main() {
	os.Args = os.Args[1:]
	os.Exit(component.Run())
}
