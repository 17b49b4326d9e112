"""Roles in the admin: which role does a type of task, and what it is in each mode."""

from django.contrib import admin

from models_registry.admin.base import RegistryAdmin
from models_registry.models import RoleAssignment, TaskRoute


@admin.register(TaskRoute)
class TaskRouteAdmin(RegistryAdmin):
    """Which role does a type of task."""

    list_display = ("task_type", "role", "fallback_role")
    list_filter = ("role",)
    search_fields = ("task_type",)


@admin.register(RoleAssignment)
class RoleAssignmentAdmin(RegistryAdmin):
    """As what a role takes part in a mode, where no preset says so."""

    list_display = ("mode", "role", "participant", "own_tasks_only")
    list_display_links = ("mode", "role")
    list_filter = ("mode", "role", "participant")
