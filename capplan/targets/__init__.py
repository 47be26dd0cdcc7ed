"""What a recommendation says, in the formats that people apply.

============ ==================================================== =========================
module       writes                                               applied by
============ ==================================================== =========================
kubernetes   strategic-merge patches and a kustomization, Helm    ``kubectl apply -k``
             values, a kubelet fragment
compose      an override file                                     ``docker compose -f``
sysctl       ``90-capplan.conf``                                  ``sysctl --system``
systemd      drop-ins                                             ``systemctl daemon-reload``
============ ==================================================== =========================

Each takes an :class:`~capplan.targets.advice.Advised` and returns files by name. Comments carry
the reason of each value. Nothing here simulates or writes.
"""
