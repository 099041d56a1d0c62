"""Resolve CloudFormation's intrinsic functions and conditions in a template; resources are made elsewhere. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Properties = dict[str, Any]


class TemplateError(ValueError):
    """The template asks for something that the local cloud cannot build."""


class _NoValue:
    """The value of `Ref: AWS::NoValue`: a property that does not exist."""


NO_VALUE = _NoValue()


class Resolver:
    """Replaces intrinsic functions. `refer(name)` and `get(name, attribute)` give a resource's reference or attribute,
    and make the resource first where needed. `values` are the parameters and AWS's pseudo-parameters, all as text."""

    def __init__(
        self,
        values: Mapping[str, str],
        conditions: Mapping[str, Any],
        refer: Callable[[str], str],
        get: Callable[[str, str], str],
    ) -> None:
        self._values, self._conditions, self._refer, self._get = values, conditions, refer, get
        self._words: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Fn::GetAtt": self._attribute,
            "Fn::Sub": self._substitute,
            "Fn::Join": self._join,
            "Fn::Split": lambda told: str(self.resolve(told[1])).split(told[0]),
            "Fn::Select": self._select,
            "Fn::If": self._choose,
            "Fn::Equals": lambda told: self._text(told[0]) == self._text(told[1]),
            "Fn::Not": lambda told: not self.resolve(told[0]),
            "Fn::And": lambda told: all(self.resolve(each) for each in told),
            "Fn::Or": lambda told: any(self.resolve(each) for each in told),
            "Condition": self.holds,
        }

    def resolve(self, value: Any) -> Any:
        """Return a value with its intrinsic functions replaced. Raises TemplateError, naming what is not known."""
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (word, argument), *_ = value.items()
            # a policy's statement has a member "Condition" too, whose value is not text
            if word in self._words and (word != "Condition" or isinstance(argument, str)):
                return self._words[word](argument)
            if word.startswith("Fn::"):
                raise TemplateError(f"The local cloud does not know {word}, which the template uses.")
        resolved = {name: self.resolve(item) for name, item in value.items()}
        return {name: item for name, item in resolved.items() if item is not NO_VALUE}

    def holds(self, condition: str) -> bool:
        """Return whether a condition of the template is true."""
        if condition not in self._conditions:
            raise TemplateError(f"The template has no condition {condition!r}.")
        return bool(self.resolve(self._conditions[condition]))

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        return self._values[name] if name in self._values else self._refer(name)

    def _attribute(self, argument: Any) -> str:
        name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
        return self._get(name, attribute)

    def _substitute(self, argument: Any) -> str:
        text, local = (argument, {}) if isinstance(argument, str) else argument

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name in local:
                return str(self.resolve(local[name]))
            return self._get(*name.split(".", 1)) if "." in name else str(self._ref(name))

        return re.sub(r"\$\{([^!}]+)\}", replace, text)

    def _join(self, argument: Any) -> str:
        between, items = argument
        return str(between).join(str(item) for item in self.resolve(items))

    def _select(self, argument: Any) -> Any:
        index, items = int(self.resolve(argument[0])), self.resolve(argument[1])
        if not 0 <= index < len(items):
            raise TemplateError(f"Fn::Select asks for item {index} of {len(items)}: {items}.")
        return items[index]

    def _choose(self, argument: Any) -> Any:
        condition, then, otherwise = argument
        return self.resolve(then if self.holds(condition) else otherwise)

    def _text(self, value: Any) -> str:
        """Return a value as CloudFormation compares it: a number equals its digits."""
        return str(self.resolve(value))
