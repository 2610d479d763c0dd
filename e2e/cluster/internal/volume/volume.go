// Package volume makes the cluster's volumes: folders of a node, handed out as PersistentVolumes of type local, so
// that the kubelet applies fsGroup and a database that is not root can write.
//
// This file decides and is pure; controller.go watches and acts.
package volume

import (
	"fmt"
	"path/filepath"
	"slices"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// selectedNode is set by the scheduler once it knows where the claim's first pod will run.
	selectedNode  = "volume.kubernetes.io/selected-node"
	provisionedBy = "pv.kubernetes.io/provisioned-by"
	// Finalizer keeps a volume until its folder is gone, also if somebody deletes the volume first.
	Finalizer = "valerix.io/local-volume"
)

// Verdict is what to do about a claim.
type Verdict int

const (
	Leave  Verdict = iota // Not for this provisioner, or not yet.
	Create                // Make its folder and its volume.
	Refuse                // It asks for something that a folder cannot give.
)

// Judge decides about a claim; the reason explains a refusal. The class is nil if the claim's does not exist.
func Judge(claim *core.PersistentVolumeClaim, class *storage.StorageClass, provisioner, node string) (Verdict, string) {
	switch {
	case class == nil || class.Provisioner != provisioner:
		return Leave, ""
	case claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil:
		return Leave, ""
	case claim.Annotations[selectedNode] != node:
		return Leave, ""
	case claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == core.PersistentVolumeBlock:
		return Refuse, "a folder cannot be a block device; use volumeMode Filesystem"
	case claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil:
		return Refuse, "local volumes cannot be made from a snapshot or another claim"
	case slices.ContainsFunc(claim.Spec.AccessModes, sharedByNodes):
		return Refuse, "a folder of one node cannot be shared by several; use ReadWriteOnce or ReadWriteOncePod"
	}
	return Create, ""
}

func sharedByNodes(mode core.PersistentVolumeAccessMode) bool {
	return mode == core.ReadWriteMany || mode == core.ReadOnlyMany
}

// Name is the name of the volume of a claim. It follows from the claim, so a second attempt finds the first.
func Name(claim *core.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

// Build returns the volume of a claim, whose folder lies in dir of the node.
func Build(claim *core.PersistentVolumeClaim, class *storage.StorageClass, node, dir string) *core.PersistentVolume {
	reclaim := core.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		reclaim = *class.ReclaimPolicy
	}
	filesystem := core.PersistentVolumeFilesystem
	name := Name(claim)
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{provisionedBy: class.Provisioner},
			Finalizers:  []string{Finalizer},
		},
		Spec: core.PersistentVolumeSpec{
			StorageClassName:              class.Name,
			PersistentVolumeReclaimPolicy: reclaim,
			MountOptions:                  class.MountOptions,
			VolumeMode:                    &filesystem,
			AccessModes:                   claim.Spec.AccessModes,
			Capacity: core.ResourceList{
				core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage],
			},
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: core.PersistentVolumeSource{
				Local: &core.LocalVolumeSource{Path: filepath.Join(dir, name)},
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{
					MatchExpressions: []core.NodeSelectorRequirement{{
						Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{node},
					}},
				}},
			}},
		},
	}
}

// End is what to do about a volume.
type End int

const (
	Keep          End = iota
	RemoveAll         // The folder, then the volume.
	DropFinalizer     // The volume goes and its folder is to stay.
)

// JudgeEnd decides about a volume.
func JudgeEnd(volume *core.PersistentVolume, provisioner, node string) End {
	if volume.Annotations[provisionedBy] != provisioner || !on(volume, node) {
		return Keep
	}
	deleting := volume.DeletionTimestamp != nil
	released := volume.Status.Phase == core.VolumeReleased || volume.Status.Phase == core.VolumeFailed
	reclaimed := volume.Spec.PersistentVolumeReclaimPolicy == core.PersistentVolumeReclaimDelete
	switch {
	case volume.Status.Phase == core.VolumeBound:
		return Keep // Even if it is being deleted: that waits for the claim.
	case reclaimed && (released || deleting):
		return RemoveAll
	case deleting:
		return DropFinalizer
	}
	return Keep
}

func on(volume *core.PersistentVolume, node string) bool {
	if volume.Spec.NodeAffinity == nil || volume.Spec.NodeAffinity.Required == nil {
		return false
	}
	for _, term := range volume.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, expression := range term.MatchExpressions {
			if expression.Key == core.LabelHostname && slices.Contains(expression.Values, node) {
				return true
			}
		}
	}
	return false
}

// Folder returns the folder of a volume after checking that it is the one that Build gave it: the path comes from the
// API, and what lies there is about to be removed.
func Folder(volume *core.PersistentVolume, dir string) (string, error) {
	want := filepath.Join(dir, volume.Name)
	if filepath.Dir(want) != filepath.Clean(dir) || volume.Spec.Local == nil || volume.Spec.Local.Path != want {
		return "", fmt.Errorf("volume %s does not lie at %s; its folder is left alone", volume.Name, want)
	}
	return want, nil
}
