"""What objects use of ResourceQuotas: pure functions that admission and the resourcequota controller share.

`evaluator_for(resource)` knows what one kind of object uses and which quotas are about it. Imitates k8s.io/apiserver/pkg/quota/v1 and
pkg/quota/v1/evaluator/core. Left out: extended resources that device claims stand for (alpha).
"""

from kubecosm.api.quota.evaluators import EVALUATORS, Evaluator, evaluator_for, is_tracked
from kubecosm.api.quota.scopes import Scope, scopes_of

__all__ = ["EVALUATORS", "Evaluator", "Scope", "evaluator_for", "is_tracked", "scopes_of"]
